"""What ``/metrics`` says, in the format of Prometheus. No label has anything that a user typed."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """The counters of a server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("gatewise_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.read = Counter("gatewise_inputs_read", "Inputs read: tokens, words, rows.", registry=self.registry)
        self.written = Counter("gatewise_tokens_written", "Tokens generated.", registry=self.registry)
        self.rows = Histogram(
            "gatewise_step_rows", "Rows of a step.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry
        )
        self.first = Histogram(
            "gatewise_first_token_seconds", "From the request to its first token.", buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.between = Histogram(
            "gatewise_between_tokens_seconds", "Between two tokens of a stream.", buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip

    def observe(self, name: str, help_: str, read: Callable[[], float]) -> None:
        """Add a number that is read when it is asked for."""
        Gauge(f"gatewise_{name}", help_, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """Return all of them."""
        return generate_latest(self.registry)
