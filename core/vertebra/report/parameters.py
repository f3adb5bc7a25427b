"""What a run says about how much it trains."""

from __future__ import annotations

from vertebra.report.numbers import magnitude


def describe_trained(adapter: str, trained: int, backbone: int, head: int) -> str:
    """Say how much of the backbone an adapter trains; parameters are numbers, the head's are those beside the backbone."""
    beside = f", and a head of {magnitude(head)}" if head else ""
    share = 100 * trained / max(1, backbone)
    return (
        f"adapter {adapter}: {magnitude(trained)} of {magnitude(backbone)} parameters trained ({share:.3g} %){beside}"
    )
