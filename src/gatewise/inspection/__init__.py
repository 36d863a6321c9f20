"""Figures of finished runs: ``measure_…`` computes numbers from models, ``draw_…`` draws a figure from numbers."""
