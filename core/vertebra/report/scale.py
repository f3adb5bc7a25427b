"""In what scores are written: shares in percent, all others as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vertebra.report.numbers import percent, span

if TYPE_CHECKING:
    from vertebra.host.manager import Host


@dataclass(frozen=True)
class Scale:
    """Writes a metric's scores; by default every metric is a share."""

    plain: frozenset[str] = frozenset()
    """The metrics that are none, such as bits for each byte."""

    @classmethod
    def of(cls, host: Host) -> Scale:
        """Return the scale of the metrics that are registered."""
        return cls(frozenset(ref.name for ref in host.refs("metric") if getattr(ref, "plain", False)))

    def is_share(self, metric: str) -> bool:
        """Whether a metric's scores go from 0 to 1; one of several tasks has its task's name before it."""
        return metric.rpartition(".")[2] not in self.plain

    def score(self, metric: str, score: float) -> str:
        """Write a score: `62.91`, or `2.104`."""
        return percent(score) if self.is_share(metric) else f"{score:.3f}"

    def span(self, metric: str, interval: Sequence[float]) -> str:
        """Write an interval of two scores: `61.5–64.2`, or `2.08–2.13`."""
        return span(interval) if self.is_share(metric) else f"{interval[0]:.2f}–{interval[1]:.2f}"

    def named(self, metric: str) -> str:
        """Return a metric's name, with a mark where its scores are not in percent."""
        return metric if self.is_share(metric) else f"{metric} *"

    def note(self, metrics: Sequence[str]) -> str:
        """Say what the mark means; empty where none of these metrics has it."""
        return "* not in percent" if any(not self.is_share(metric) for metric in metrics) else ""
