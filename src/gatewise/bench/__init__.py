"""Duels with the peers: the same work in turns in one run, timed only after the outputs were checked."""
