"""Whether each kind of attention and of training works, or is refused before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product

from vertebra.errors import BackboneError, ConfigError
from vertebra.testing.breaches import Breach
from vertebra.testing.case import Case

STEPS = 2


def check(case: Case) -> Iterator[Breach]:
    """Make a short run of each combination but the one that all other checks use; `ConfigError` and the like are refusals."""
    case.prepared  # noqa: B018  (what fails in any mode is said by an earlier check)
    for attention, freeze in product(("causal", "bidirectional"), (False, True)):
        if attention == case.task_class.attention and not freeze:
            continue
        name = f"attention={attention}, freeze={str(freeze).lower()}"
        try:
            run = case.train(name, case.config(steps=STEPS, backbone={"attention": attention, "freeze": freeze}))
        except (BackboneError, ConfigError) as error:
            if (case.folder / name / "log.jsonl").exists():
                yield Breach(
                    case.place("build_head_on"),
                    f"with backbone.{name} the run was refused after it began to train: {error}",
                    "refuse what cannot work when the task is made or builds its head, not in `loss` or `decode`",
                )
            continue
        except Exception as error:
            yield Breach(
                f"{case.place('build_head')}, {case.place('loss')}",
                f"with backbone.{name} a run stops with {type(error).__name__}: {error}",
                "the head or the loss reaches into the backbone, or expects hidden states with a gradient: what cannot work is "
                "refused by a ConfigError",
            )
            continue
        losses = [json.loads(line).get("loss") for line in (run / "log.jsonl").read_text().splitlines()]
        if not losses:
            yield Breach(case.place("loss"), f"with backbone.{name} nothing was trained", "no row has a target")
