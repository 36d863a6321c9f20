"""The tasks a user can train, one file per task: each wires data, model and training together."""
