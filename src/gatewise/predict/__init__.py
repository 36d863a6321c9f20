"""Using a finished model: one file per action, each with a typed result."""
