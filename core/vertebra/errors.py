"""What a user can cause is a `VertebraError`: one message that says what failed, what exists and what to do."""

from __future__ import annotations


class VertebraError(Exception):
    """An error that a user can cause and mend. The command line prints its message alone and exits with 2."""


class ConfigError(VertebraError):
    """The configuration cannot be run: a wrong key, type or value, or a combination that cannot work."""


class DataError(VertebraError):
    """The data cannot be read, or does not have what the task needs."""


class BackboneError(VertebraError):
    """The backbone cannot be loaded, or cannot do what was asked of it."""


class PluginError(VertebraError):
    """A plugin is broken, blocked, unknown, or collides with another."""


class RunError(VertebraError):
    """A run cannot start, go on, or be read."""


class StoppedError(RunError):
    """A run was asked to stop, saved what it had, and can be resumed."""


class PrunedError(RunError):
    """A search gave a run up, because others are better; it saved what it had."""
