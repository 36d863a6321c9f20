"""The engine in C++ (``csrc/``), on the CPU: one module per capability."""
