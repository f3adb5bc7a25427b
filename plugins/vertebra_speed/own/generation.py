"""Vertebra's generator as a run uses it, for the same requests."""

from __future__ import annotations
