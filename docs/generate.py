"""Write the generated parts of the documentation: what stands between `<!-- generated: NAME -->` and `<!-- end -->`.

Run by `make docs`; a test says when a page is out of date.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from vertebra.config.defaults import GROUPS, defaults_of
from vertebra.host.hooks import hook_names
from vertebra.host.hookspecs import BehaviourHooks, RegisterHooks, RunHooks
from vertebra.host.manager import create_host
from vertebra.testing.promises import PROMISES
from vertebra_speed.markdown import performance

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))  # for the module beside this one, also where this one is loaded by its path

import distributed_plan  # noqa: E402
import public_names  # noqa: E402
from benchmark_page import leaderboard  # noqa: E402
from command_help import commands  # noqa: E402
from docstrings import descriptions, signature, text_of  # noqa: E402
from results_page import results, studies  # noqa: E402

REGION = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
BOUNDS = {Gt: ("gt", ">"), Ge: ("ge", "≥"), Lt: ("lt", "<"), Le: ("le", "≤")}
TYPES = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null", Any: "anything"}


def main() -> None:
    """Write every page that has generated parts."""
    for page in pages():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


def pages() -> list[Path]:
    """Return the pages of the documentation."""
    return sorted(page for page in DOCS.rglob("*.md") if not page.is_relative_to(DOCS / "examples"))


def filled(text: str) -> str:
    """Return a page with its generated parts made anew."""
    return REGION.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", text)


def settings() -> str:
    """Return a table for each group of the configuration."""
    tables = [f"### {group}\n\n{table(owner, group)}" for group, owner in GROUPS.items()]
    return "\n\n".join(tables)


def task_settings() -> str:
    """Return a table for each task that is installed with Vertebra."""
    host = create_host()
    own = [name for plugin in host.plugins if plugin.source == "vertebra" for name in plugin.registers.get("task", ())]
    owners = {name: host.get("task", name).load_config() for name in own}
    return "\n\n".join(f"### task={name}\n\n{table(owner, 'task')}" for name, owner in owners.items() if owner)


def adapter_settings() -> str:
    """Return a table for each dataclass of adapters, under the names of those that it serves."""
    host = create_host()
    own = [name for plugin in host.plugins if plugin.source == "core" for name in plugin.registers.get("adapter", ())]
    owners: dict[type, list[str]] = {}
    for name in own:
        if owner := host.get("adapter", name).load_config():
            owners.setdefault(owner, []).append(name)
    return "\n\n".join(
        f"### adapter={', '.join(names)}\n\n{table(owner, 'adapter')}" for owner, names in owners.items()
    )


def table(owner: type, group: str) -> str:
    """Return a table of a dataclass's fields: type, default, description."""
    hints = get_type_hints(owner, include_extras=True)
    described = descriptions(owner)
    defaults = defaults_of(owner)
    rows = [
        f"| `{group}.{field.name}` | {described_type(hints[field.name])} | `{shown(defaults[field.name])}` "
        f"| {described[field.name]} |"
        for field in fields(owner)
        if field.init
    ]
    return "\n".join(["| setting | values | default | |", "|---|---|---|---|", *rows])


def described_type(hint: Any) -> str:
    """Return what a type allows, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        signs = [(BOUNDS[type(bound)], bound) for bound in parts[1:]]
        bounds = [f"{sign} {getattr(bound, attribute)}" for (attribute, sign), bound in signs]
        return f"{described_type(parts[0])} {' and '.join(bounds)}"
    if origin is Literal:
        return " or ".join(f"`{shown(value)}`" for value in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(described_type(part) for part in parts)
    if origin is tuple:
        return f"list of {described_type(parts[0])}"
    if origin is dict:
        return f"mapping of {described_type(parts[0])} to {described_type(parts[1])}"
    return TYPES[hint]


def shown(value: Any) -> str:
    """Return a value as it is written on the command line."""
    return value.replace("\n", "\\n") if isinstance(value, str) else json.dumps(value)


def hooks(owner: type) -> str:
    """Return what each hook of a class of specifications says, with its arguments."""
    return "\n\n".join(hook(getattr(owner, name)) for name in hook_names(owner))


def hook(specification: Callable[..., Any]) -> str:
    """Return a hook's arguments, its docstring, and its types."""
    arguments = ", ".join(name for name in inspect.signature(specification).parameters if name != "self")
    types_of = f"```text\n{specification.__name__}{signature(specification, bound=True)}\n```"
    return f"### `{specification.__name__}({arguments})`\n\n{text_of(specification)}\n\n{types_of}"


def example() -> str:
    """Return the task of the example plugin."""
    source = DOCS / "examples" / "vertebra-readability" / "vertebra_readability" / "task.py"
    return f"```python\n{source.read_text(encoding='utf-8').strip()}\n```"


def bits_per_byte() -> str:
    """Return what a language model's bits stand beside, by text."""
    found = json.loads((DOCS / "pretraining" / "bits-per-byte.json").read_text(encoding="utf-8"))
    texts = found["bits_per_byte"]
    names = list(next(iter(texts.values())))
    rows = [[name, *(f"{texts[text][name]:.3f}" for text in texts)] for name in names]
    lines = [["", *(f"{text} (`{found['texts'][text]}`)" for text in texts)], ["---", *["---:"] * len(texts)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def nano() -> str:
    """Return how the weights of nano were made, with the curves."""
    about = json.loads((DOCS / "pretraining" / "nano.json").read_text(encoding="utf-8"))
    settings, cost, machine = about["settings"], about["cost"], about["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "transformers", "python"))
    where = f"{machine['gpu']}, {machine['cpu']}" if machine["gpu"] != "none" else machine["cpu"]
    rows = {
        "read": f"{about['tokens'] / 1e6:.0f} million tokens in {' + '.join(f'{one:,}' for one in about['steps'])} steps of "
        f"{settings['batch_size']} windows of {settings['window']} tokens; for each window that is read causally, "
        f"{settings['both_ways']} are read both ways, {settings['masked']:.0%} of their tokens masked",
        "settings": f"{settings['optimizer']}, rate {settings['learning_rate']:g}, schedule {settings['schedule']} in each "
        f"part, weight decay {settings['weight_decay']:g}, clip {settings['clip']:g}, seeds "
        f"{', '.join(map(str, settings['seeds']))}",
        "cost": f"{cost['wall_seconds'] / 60:.0f} minutes on {where}, evaluation included",
        "versions": versions,
    }
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())])
    return (
        f"{table}\n\n![Training loss and bits per byte of held-out articles over the tokens read](../images/nano.png)"
    )


def promises() -> str:
    """Return the promises that the conformance kit tries."""
    return "\n".join(["| | |", "|---|---|", *(f"| `{one.name}` | {one.says} |" for one in PROMISES)])


PARTS: dict[str, Callable[[], str]] = {
    "bits_per_byte": bits_per_byte,
    "nano": nano,
    "settings": settings,
    "task_settings": task_settings,
    "adapter_settings": adapter_settings,
    "example": example,
    "promises": promises,
    "distributed_plan": distributed_plan.plan,
    "leaderboard_core": lambda: leaderboard(DOCS / "benchmark" / "core.json"),
    "performance": lambda: performance(DOCS / "performance"),
    "results_full": lambda: results(DOCS / "results", "full"),
    "results_small": lambda: results(DOCS / "results", "small"),
    "results_studies": lambda: studies(DOCS / "results"),
    "register_hooks": lambda: hooks(RegisterHooks),
    "run_hooks": lambda: hooks(RunHooks),
    "behaviour_hooks": lambda: hooks(BehaviourHooks),
    "commands": commands,
    **{f"names_{page}": partial(public_names.names, page) for page in public_names.PAGES},
}

if __name__ == "__main__":
    main()
