"""What one does with a finished model: a file a verb, each with a typed result."""
