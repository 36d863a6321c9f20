"""Training steps of the recipes against straightforward PyTorch programs of the same models."""
