"""The engine that PyTorch's tensor operations make: a file for each of its capabilities."""
