"""What ``gatewise serve`` is told, and the limits of the server."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

LARGEST_BODY = 1 << 20
"""The largest JSON body, in bytes."""
LARGEST_STATE = 64 << 20
"""The largest saved state, in bytes; a state of 4 layers of 4,096 units takes 128 kB."""
AT_ONCE = 1 << 14
"""The most characters of a body that the event loop reads itself, which takes it some milliseconds."""
DEEPEST = 8
"""How deep a JSON body may be nested; no route needs more than 4."""
LONGEST = 100_000
"""The most tokens of one generation."""
MOST_ROWS = 64
"""The most rows of one step, and of one completion."""
MOST_WAITING = 1024
"""The most operations on states at a time; more are refused with 429."""
DRAIN_SECONDS = 3.0
"""How long streams may go on after SIGTERM; then they hand over, to a server that goes on with the same states."""
LAST_SECONDS = 0.6
"""How long their last events may then take to be stored and sent, before connections are closed."""


@dataclass(frozen=True)
class Settings:
    """What ``gatewise serve`` is told.

    Attributes:
        host: the address to listen on.
        port: 0 takes a free one.
        key: what clients must send; None where there is none.
        allowed_hosts: names that clients may use besides loopback's and ``host``.
        max_sessions: how many there may be.
        in_memory: how many of them are kept in memory, if there is a ``state_dir``.
        state_dir: where sessions are kept on disk.
        ttl: how many seconds an unused session is kept.
        threads: of one step of a model.
        id_prefix: how the ids of its sessions begin, by which a proxy knows the server of each.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    key: str | None = None
    allowed_hosts: Sequence[str] = field(default_factory=tuple)
    max_sessions: int = 1000
    in_memory: int = 1000
    state_dir: Path | None = None
    ttl: float = 3600.0
    threads: int = 1
    id_prefix: str = ""
