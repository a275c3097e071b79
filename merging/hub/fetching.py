"""The ways to get a remote model's bytes."""

from __future__ import annotations

from typing import Literal

Fetch = Literal["snapshot", "shards", "ranges"]
