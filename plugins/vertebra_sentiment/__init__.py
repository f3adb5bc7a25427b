"""Sentiment, and any other labelling of texts."""
