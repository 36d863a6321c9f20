"""Training: loop, optimizer and schedule, checkpoints and exact resume, progress, distributed processes."""
