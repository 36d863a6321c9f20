"""Benchmarks and records that need the repository: ``python -m benchmarks.NAME`` in its folder."""
