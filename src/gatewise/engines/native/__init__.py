"""The engine in C++ (``csrc/``), on the CPU: a file for each of its capabilities."""
