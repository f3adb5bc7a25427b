"""Speed: the engine beside Hugging Face's own programs, on the user's machine. This module imports nothing heavy."""

from __future__ import annotations

from vertebra.host.hookspecs import hookimpl
from vertebra.host.refs import CommandRef


@hookimpl
def register_commands() -> list[CommandRef]:
    """Bring `vertebra speed`."""
    return [
        CommandRef("speed", "vertebra_speed.command:main", summary="measure Vertebra beside Hugging Face's programs")
    ]
