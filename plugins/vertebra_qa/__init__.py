"""Question answering: spans of a context, and the choice among candidate answers. This module imports nothing heavy."""

from __future__ import annotations

from vertebra.host.hookspecs import hookimpl
from vertebra.host.refs import MetricRef, ReaderRef, TaskRef


@hookimpl
def register_tasks() -> list[TaskRef]:
    """Bring the tasks."""
    return [
        TaskRef(
            "qa",
            "vertebra_qa.task:QA",
            config="vertebra_qa.config:QAConfig",
            summary="Find the answer to a question in a text.",
        ),
        TaskRef(
            "answer_selection",
            "vertebra_qa.answer_selection:AnswerSelection",
            config="vertebra_qa.config:AnswerSelectionConfig",
            summary="Rank candidate answers to a question.",
        ),
    ]


@hookimpl
def register_metrics() -> list[MetricRef]:
    """Bring SQuAD's scores, and those of rankings."""
    return [
        MetricRef("answer_f1", "vertebra_qa.metrics:AnswerF1", tasks=("span-extraction",)),
        MetricRef("exact_match", "vertebra_qa.metrics:ExactMatch", tasks=("span-extraction",)),
        MetricRef("answer_map", "vertebra_qa.ranking_metrics:MeanAveragePrecision", tasks=("ranking",)),
        MetricRef("answer_mrr", "vertebra_qa.ranking_metrics:MeanReciprocalRank", tasks=("ranking",)),
        MetricRef("answer_p_at_1", "vertebra_qa.ranking_metrics:PrecisionAt1", tasks=("ranking",)),
    ]


@hookimpl
def register_readers() -> list[ReaderRef]:
    """Bring SQuAD's JSON, and the synthetic samples."""
    facts = "made-up facts and questions about them, made from a seed"
    return [
        ReaderRef("squad", "vertebra_qa.squad:read", summary="SQuAD's JSON, 1.1 or 2.0", splits="files"),
        ReaderRef("qa_sample", "vertebra_qa.sample:read_contexts", summary=facts, reads_path=False),
        ReaderRef("answer_selection_sample", "vertebra_qa.sample:read_candidates", summary=facts, reads_path=False),
    ]


@hookimpl
def register_config_packages() -> list[str]:
    """Bring the data options `qa/…` and `answer_selection/…`."""
    return ["vertebra_qa.conf"]
