"""Sentiment, and any other labelling of texts. This module imports nothing heavy."""

from __future__ import annotations

from vertebra.host.hookspecs import hookimpl
from vertebra.host.refs import ReaderRef, TaskRef


@hookimpl
def register_tasks() -> list[TaskRef]:
    """Bring the tasks; they differ in name and data alone."""
    return [
        TaskRef(
            "sentiment",
            "vertebra_sentiment.task:Sentiment",
            config="vertebra_sentiment.config:SentimentConfig",
            summary="Tell how a text judges: good or bad, stars, or any scale.",
        ),
        TaskRef(
            "classification",
            "vertebra_sentiment.task:Classification",
            config="vertebra_sentiment.config:ClassificationConfig",
            summary="Give a text, or a pair of texts, one of many labels, or several.",
        ),
    ]


@hookimpl
def register_readers() -> list[ReaderRef]:
    """Bring the synthetic samples."""
    return [
        ReaderRef(
            "sentiment_sample",
            "vertebra_sentiment.reviews:read",
            summary="reviews made from a seed",
            reads_path=False,
        ),
        ReaderRef(
            "classification_sample",
            "vertebra_sentiment.requests:read",
            summary="requests made from a seed",
            reads_path=False,
        ),
    ]


@hookimpl
def register_config_packages() -> list[str]:
    """Bring the data options `sentiment/…` and `classification/…`."""
    return ["vertebra_sentiment.conf"]
