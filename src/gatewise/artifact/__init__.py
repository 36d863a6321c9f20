"""Format of the run folder: its files, crash-safe writing and strict reading."""
