"""The promises of a task, in the order in which they are tried: the cheap ones first, each by reference to its check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertebra.host.refs import load_attribute

if TYPE_CHECKING:
    from vertebra.testing.breaches import Breach
    from vertebra.testing.case import Case

    Check = Callable[[Case], Iterator[Breach]]


@dataclass(frozen=True)
class Promise:
    """One thing that a task promises, and what shows whether it holds."""

    name: str
    says: str
    """What holds where the promise is kept."""
    target: str
    """The check: a function `(Case) -> Iterator[Breach]`, as `package.module:attribute`."""

    def load(self) -> Check:
        """Import and return the check."""
        check: Check = load_attribute(self.target, f"the check of '{self.name}'")
        return check


def _promise(name: str, says: str) -> Promise:
    return Promise(name, says, f"vertebra.testing.checks.{name}:check")


PROMISES: tuple[Promise, ...] = (
    _promise("registered", "the plugin is active, and brings the task and all that it names"),
    _promise("imports", "finding the plugin and composing a run import neither torch nor anything else that is heavy"),
    _promise("options", "every option that the plugin declares composes, and so does every value of its settings"),
    _promise("settings", "the settings that the code reads are the ones that the config declares"),
    _promise("columns", "the columns that the code reads are the ones that the task declares"),
    _promise("bad_rows", "a row that cannot be used is refused, with its number"),
    _promise("encode", "the same rows give the same state and the same features each time"),
    _promise("round_trip", "the outputs that the loss likes best decode into the references"),
    _promise(
        "metrics", "each metric tells right from wrong, in the direction and the order of arguments that it declares"
    ),
    _promise("baselines", "each baseline fits, and says something of every row"),
    _promise("loss", "the loss is one finite number, the mean over the targets, and has a gradient"),
    _promise("batches", "what stands beside a row in a batch changes nothing of what is said of it"),
    _promise("learns", "training lowers the loss, and what is learnt is learnt from the text"),
    _promise("saved", "a trained run that is loaded again, in another process, predicts the same"),
    _promise("resume", "a run that was stopped and resumed ends as the uninterrupted one, bit by bit"),
    _promise("modes", "causal or bidirectional, frozen or not: a run works, or is refused before it trains"),
    _promise("multirun", "a sweep runs, and what a run gives depends on no run before it"),
)
"""All promises. A check that takes a while stands behind those that are done at once."""
