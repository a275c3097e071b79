"""Whole-model rounds over several tensors."""

from __future__ import annotations

from merging.methods.apply import measure_together as measured_together

__all__ = ["measured_together"]
