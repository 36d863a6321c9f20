"""The run folder's format: what lies where, how it is written safely and read with care."""
