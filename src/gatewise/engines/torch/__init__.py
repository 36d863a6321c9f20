"""The engine in PyTorch's tensor operations: one module per capability."""
