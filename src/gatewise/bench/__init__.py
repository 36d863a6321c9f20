"""Comparisons with other libraries: the same work in turns within one run, timed only after checking outputs."""
