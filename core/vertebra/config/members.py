"""Runs of several tasks: each member is composed by itself, as a run of its own, and they are joined.

On the command line `tasks=[ner,sentiment]` names them; what belongs to one of them has its name before it, as in
`ner.data.path=…`, and all else is every member's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from vertebra.config.compatibility import combination_of, refusals_each, refusals_together
from vertebra.config.compose import Composition, compose, compose_in
from vertebra.config.defaults import GROUPS
from vertebra.config.document import OF_CHOICE
from vertebra.config.earlier_heads import wrong_head
from vertebra.config.schema import RunConfig, TaskChoice
from vertebra.config.session import hydra_session
from vertebra.config.task_list import TASKS, names_in, names_tasks
from vertebra.config.validate import read_field
from vertebra.errors import ConfigError
from vertebra.host.manager import Host
from vertebra.names import unknown

OWN = ("data", "task", *OF_CHOICE)
"""What a member has of its own; all else is the run's."""
SHARED = tuple(group for group in GROUPS if group != "data")
SHARED_RATE = "tasks that share what is trained learn at one rate; with trainer.adapters=each they do not."
MORE_METRICS = "trainer.more_metrics goes with one task: metrics are those of the tasks where there are several."


@dataclass
class Members:
    """The members that a command line names, and whose its overrides are."""

    names: list[str]
    shared: list[str] = field(default_factory=list)
    own: dict[str, list[str]] = field(default_factory=dict)
    """By name, as they stand on the command line of a run of that task alone."""
    of_choice: dict[str, dict[str, str]] = field(default_factory=dict)
    """By name what the run says of it besides: the texts by their settings."""


def compose_run(overrides: Sequence[str], host: Host) -> Composition:
    """Return the run of these overrides, of one task or of several; `ConfigError` lists all that is wrong."""
    return compose_tasks(overrides, host) if names_tasks(overrides) else compose(overrides, host)


def compose_tasks(overrides: Sequence[str], host: Host) -> Composition:
    """Return the run of these overrides, which name its tasks by `tasks=[…]`; `ConfigError` lists all that is wrong."""
    members = find_members(overrides, host)
    found: dict[str, Composition] = {}
    errors: dict[str, list[str]] = {}
    with hydra_session(host) as hydra:
        for name in members.names:
            try:
                found[name] = compose_in(hydra, [f"task={name}", *members.shared, *members.own[name]], host)
            except ConfigError as error:
                errors[name] = str(error).splitlines()
    lines = _said_once(errors, members.names)
    of_choice = _of_choice(members.of_choice, lines)
    if lines:
        raise ConfigError("\n".join(lines))
    config = join([one.config for one in found.values()], host, of_choice)
    folder = next(iter(found.values())).folder
    if not any(override.startswith("hydra.run.dir=") for override in overrides):
        folder = folder.parent.with_name("+".join(members.names)) / folder.name
    return Composition(config, folder)


def find_members(overrides: Sequence[str], host: Host) -> Members:
    """Return the members that the overrides name, and whose each override is; `ConfigError` lists what is wrong with that."""
    named = [override for override in overrides if override.startswith(TASKS)]
    names = names_in(named[-1])
    errors = wrong_names(names, host)
    if any(override.startswith("task=") for override in overrides):
        errors.append("task= and tasks= cannot both be given: tasks=[…] names all tasks of the run.")
    if len(names) > 1 and not named[-1].removeprefix(TASKS).startswith("["):
        errors.append(f"{named[-1]}: write a list, as in tasks=[{','.join(names)}].")
    members = Members(names, own={name: [] for name in names})
    for override in overrides:
        if override.startswith(TASKS):
            continue
        key, _, value = override.partition("=")
        owner, _, rest = key.lstrip("+~").partition(".")
        if owner in (*GROUPS, "task", "hydra", "seed") or owner not in (*names, *host.names("task")):
            members.shared.append(override)
        elif owner not in names:
            errors.append(f"{key}: task '{owner}' is not one of tasks=[{','.join(names)}].")
        elif rest.partition(".")[0] not in OWN:
            errors.append(
                f"{key}: a task has {', '.join(OWN[:-1])} and {OWN[-1]} of its own, as in {owner}.data.limit=100; all else is "
                "shared by the tasks of a run."
            )
        elif rest in OF_CHOICE:
            members.of_choice.setdefault(owner, {})[rest] = value
        else:
            sign = key[: len(key) - len(key.lstrip("+~"))]
            members.own[owner].append(f"{sign}{rest}={value}")
    if len(names) > 1 and any(override.lstrip("+").startswith("trainer.more_metrics=") for override in members.shared):
        errors.append(MORE_METRICS)  # before each task says which of these metrics it does not have
    if errors:
        raise ConfigError("\n".join(errors))
    return members


def wrong_names(names: Sequence[str], host: Host) -> list[str]:
    """Return a line for each name that is no task, or is there twice, and one where there is none."""
    known = host.names("task")
    if not names:
        return [f"Choose the tasks: tasks=[NAME,NAME]. Known: {', '.join(known) or 'none'}."]
    errors = [f"tasks: {unknown('task', name, known)}" for name in dict.fromkeys(names) if name not in known]
    twice = dict.fromkeys(name for name in names if names.count(name) > 1)
    return [*errors, *(f"tasks: '{name}' is named twice, and a task has one head in a run." for name in twice)]


def join(
    members: Sequence[RunConfig], host: Host, of_choice: Mapping[str, Mapping[str, Any]] | None = None
) -> RunConfig:
    """Return one run of the members' tasks, each the configuration of a run of its own; they agree in all but the task.

    `of_choice` has by name what the run says of a task besides. `ConfigError` lists what stands against it.
    """
    first, said = members[0], of_choice or {}
    choices = tuple(replace(one, **said.get(one.name, {})) for member in members for one in member.tasks)
    joined = replace(first, tasks=choices)
    errors = [*wrong_shares(choices), *(line for choice in choices for line in wrong_head(choice, host))]
    if len(choices) == 1 and not errors:
        return joined
    names = [choice.name for choice in choices]
    errors += wrong_names(names, host)
    for group in (*SHARED, "seed"):
        if any(getattr(member, group) != getattr(first, group) for member in members):
            errors.append(f"{group} differs between the tasks of the run, which share it.")
    if first.trainer.metric not in (None, "loss"):
        errors.append(
            f"trainer.metric={first.trainer.metric}: with several tasks it is the mean of each one's first metric that picks "
            "the best checkpoint, or loss."
        )
    if first.trainer.more_metrics:
        errors.append(MORE_METRICS)
    if first.gpu.shard:
        errors.append(
            "gpu.shard=true goes with one task: in a pass without sequences of a task its head has no gradients to exchange. "
            "Use gpu=ddp."
        )
    if first.trainer.adapters == "each":
        errors += _wrong_each(joined, host)
    else:
        errors += [f"{one.name}.rate={one.rate}: {SHARED_RATE}" for one in choices if one.rate != TaskChoice.rate]
    if not errors:
        combination = combination_of(names[0], first.adapter.name, first.backbone, host)
        errors += [one.line for one in refusals_together(names, combination, host)]
    if errors:
        raise ConfigError("\n".join(errors))
    return joined


def wrong_shares(choices: Sequence[TaskChoice]) -> Iterator[str]:
    """Yield a line where the tasks that have a share of the examples leave none to the others, or there are no others."""
    shares = {choice.name: choice.share for choice in choices if choice.share is not None}
    listed = ", ".join(f"{name}.share={share:g}" for name, share in shares.items())
    if shares and len(shares) == len(choices):
        yield f"{listed}: a share is that beside other tasks, whose rows an epoch goes over: leave one task without."
    elif sum(shares.values()) >= 1:
        yield f"{listed}: they leave nothing to the other tasks: their sum must be below 1."


def _wrong_each(config: RunConfig, host: Host) -> Iterator[str]:
    """Yield a line for each setting that does not go with an adapter for each task."""
    yield from (one.line for one in refusals_each(config.adapter.name, host))
    if config.backbone.gradient_checkpointing:
        yield (
            "trainer.adapters=each does not go with backbone.gradient_checkpointing=true: the second computation would not "
            "know whose rows it has. Set it to false; a lower gpu.token_budget needs less memory, too."
        )
    weighed = [f"{one.name}.weight={one.weight:g}" for one in config.tasks if one.weight != TaskChoice.weight]
    if config.trainer.weighting != "fixed":
        weighed.append(f"trainer.weighting={config.trainer.weighting}")
    for setting in weighed:
        yield (
            f"{setting} does not go with trainer.adapters=each: it weighs tasks against each other in what they share, and "
            "they share nothing that is trained."
        )


def _of_choice(given: Mapping[str, Mapping[str, str]], errors: list[str]) -> dict[str, dict[str, Any]]:
    """Return by name the settings that were given as texts; what is wrong with them goes to `errors`."""
    found: dict[str, dict[str, Any]] = {}
    for name, texts in given.items():
        for key, text in texts.items():
            wrong: list[str] = []
            value = read_field(TaskChoice, key, read_value(text), wrong)
            errors += [f"{name}.{line}" for line in wrong]
            if not wrong:
                found.setdefault(name, {})[key] = value
    return found


def read_value(text: str) -> Any:
    """Return the value that a text stands for on the command line: a number, null, or the text itself."""
    try:
        value = OverridesParser.create().parse_override(f"value={text}").value()
    except HydraException:
        return text
    return value if value is None or isinstance(value, str | int | float) else text


def _said_once(errors: Mapping[str, Sequence[str]], names: Sequence[str]) -> list[str]:
    """Return the lines of all members: what is wrong with each of them once, else with the task's name before it."""
    common = [
        line
        for line in next(iter(errors.values()), ())
        if len(names) > 1 and all(line in errors.get(n, ()) for n in names)
    ]
    return [*common, *(f"{name}: {line}" for name, lines in errors.items() for line in lines if line not in common)]
