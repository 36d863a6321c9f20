"""What a user asks for, one file per task: data, model and training wired together."""
