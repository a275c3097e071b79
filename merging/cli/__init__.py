"""The command line: run, check, explain, verify, inspect, methods, demo, schema."""

from __future__ import annotations

from merging.cli.program import main

__all__ = ["main"]
