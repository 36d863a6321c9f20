"""The models of the tasks, built from ``gatewise.nn``, and loading them from a run folder."""
