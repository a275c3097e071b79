"""Benchmarks: `python -m benchmarks.streaming`, `.methods`, `.compare`, `.tables`; results are JSON under results/."""
