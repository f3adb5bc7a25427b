"""What a run says about how much it trains."""

from __future__ import annotations

from vertebra.report.numbers import magnitude


def describe_trained(adapter: str, trained: int, backbone: int, head: int, adapters: int = 1) -> str:
    """Say how much of the backbone is trained by an adapter, or by one for each task.

    Parameters are numbers, over all adapters; the head's are those beside the backbone.
    """
    each = f" for each of {adapters} tasks" if adapters > 1 else ""
    beside = f", and a head of {magnitude(head)}" if head else ""
    share = 100 * trained / max(1, backbone)
    return f"adapter {adapter}{each}: {magnitude(trained)} of {magnitude(backbone)} parameters trained ({share:.3g} %){beside}"
