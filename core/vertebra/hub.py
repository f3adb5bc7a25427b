"""The Hugging Face Hub, with an answer within seconds where it cannot be reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 3.0


def hub_answers() -> bool:
    """Ask the Hub once: without a network, its libraries would try for most of a minute."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:  # whatever the reason, the Hub cannot be used
        return False
    return True


@contextmanager
def offline() -> Iterator[None]:
    """Let the Hub's libraries read their cache alone; they look at the setting at each request."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
