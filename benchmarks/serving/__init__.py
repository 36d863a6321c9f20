"""What ``gatewise serve`` does under load; ``python -m benchmarks.serving --help``."""
