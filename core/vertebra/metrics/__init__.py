"""Metrics: the protocol and the intervals around a score."""
