"""Pictures of finished runs: each file has a ``measure_…`` (numbers from models) and a ``draw_…`` (ink from numbers)."""
