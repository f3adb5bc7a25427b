"""The registry: which reference stands behind a kind and a name, and who brought it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from vertebra.errors import PluginError
from vertebra.host.records import DISABLE, PluginRecord
from vertebra.host.refs import Ref
from vertebra.names import unknown


class Registry:
    """References by kind and name. A name has one owner; a second one is refused, and the name is then nobody's."""

    def __init__(self) -> None:
        self._refs: dict[str, dict[str, Ref]] = defaultdict(dict)
        self._owners: dict[tuple[str, str], PluginRecord] = {}
        self._rivals: dict[tuple[str, str], PluginRecord] = {}

    def add(self, owner: PluginRecord, refs: Sequence[Ref]) -> None:
        """Take in all references of a plugin, or none: a taken name is a `PluginError` that names its owner."""
        keys = [(ref.kind, ref.name) for ref in refs]
        for kind, name in keys:
            if keys.count((kind, name)) > 1:
                raise PluginError(f"It registers the {kind} '{name}' twice.")
        taken = [key for key in keys if key in self._owners]
        for key in taken:
            self._rivals.setdefault(key, owner)
        if taken:
            clashes = "; ".join(f"the {kind} '{name}' of {self._owners[kind, name].label}" for kind, name in taken)
            raise PluginError(f"It registers what is already there: {clashes}.")
        for ref in refs:
            self._refs[ref.kind][ref.name] = ref
            self._owners[ref.kind, ref.name] = owner

    def get(self, kind: str, name: str) -> Ref:
        """Return the reference; `PluginError` where nothing has that name, or where two plugins claim it."""
        if name not in self.names(kind):
            raise PluginError(unknown(kind, name, self.names(kind)))
        rival = self._rivals.get((kind, name))
        if rival is not None:
            raise PluginError(
                f"The {kind} '{name}' is registered by two: {self._owners[kind, name].label} and {rival.label}."
                f" Block one of them, as in {DISABLE}={rival.name}."
            )
        return self._refs[kind][name]

    def names(self, kind: str) -> list[str]:
        """Return the names of a kind, sorted."""
        return sorted(self._refs.get(kind, {}))

    def refs(self, kind: str) -> list[Ref]:
        """Return the references of a kind, sorted by name."""
        return [self._refs[kind][name] for name in self.names(kind)]
