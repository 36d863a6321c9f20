"""The training loop: optimiser and schedule, checkpoints and exact resume, progress, several processes."""
