"""Recommendation: what comes next after a history of items that are known by their texts. This module imports nothing heavy."""

from __future__ import annotations

from vertebra.host.hookspecs import hookimpl
from vertebra.host.refs import MetricRef, ReaderRef, TaskRef

RANKED = ("ranking-of-a-catalogue",)
"""The family of tasks that the metrics score."""


@hookimpl
def register_tasks() -> list[TaskRef]:
    """Bring the task."""
    return [
        TaskRef(
            "recommendation",
            "vertebra_recommendation.task:Recommendation",
            config="vertebra_recommendation.config:RecommendationConfig",
            summary="Rank a catalogue of texts by what comes next.",
        )
    ]


@hookimpl
def register_metrics() -> list[MetricRef]:
    """Bring the scores over full rankings, those of cold items alone, and what describes the recommended items."""
    return [
        *(MetricRef(f"ndcg_at_{k}", f"vertebra_recommendation.metrics:NDCGAt{k}", tasks=RANKED) for k in (5, 10, 20)),
        *(MetricRef(f"hr_at_{k}", f"vertebra_recommendation.metrics:HRAt{k}", tasks=RANKED) for k in (1, 5, 10, 20)),
        MetricRef("mrr_full", "vertebra_recommendation.metrics:MRRFull", tasks=RANKED),
        MetricRef("cold_ndcg_at_10", "vertebra_recommendation.metrics:ColdNDCGAt10", tasks=RANKED),
        MetricRef("cold_hr_at_10", "vertebra_recommendation.metrics:ColdHRAt10", tasks=RANKED),
        MetricRef("coverage_at_10", "vertebra_recommendation.metrics:CoverageAt10", tasks=RANKED),
        MetricRef("popularity_bias", "vertebra_recommendation.metrics:PopularityBias", plain=True, tasks=RANKED),
        MetricRef("ndcg_at_10_sampled_100", "vertebra_recommendation.metrics:NDCGAt10Sampled100", tasks=RANKED),
        MetricRef("hr_at_10_sampled_100", "vertebra_recommendation.metrics:HRAt10Sampled100", tasks=RANKED),
    ]


@hookimpl
def register_readers() -> list[ReaderRef]:
    """Bring interactions from files, MovieLens 100K, and the synthetic sample."""
    made = "users and items made from a seed"
    return [
        ReaderRef("interactions", "vertebra_recommendation.files:read"),
        ReaderRef("movielens_100k", "vertebra_recommendation.movielens:read"),
        ReaderRef("recommendation_sample", "vertebra_recommendation.sample:read", summary=made, reads_path=False),
    ]


@hookimpl
def register_config_packages() -> list[str]:
    """Bring the data options `recommendation/…`."""
    return ["vertebra_recommendation.conf"]
