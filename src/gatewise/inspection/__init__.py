"""Pictures of finished runs: ``measure_…`` makes numbers of models, ``draw_…`` a figure of numbers."""
