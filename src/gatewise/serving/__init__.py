"""``gatewise serve``: models behind HTTP, sessions that carry their state, and a page that shows the gates at work.

It computes with ``gatewise.runtime`` and needs no PyTorch. One thread, the engine, steps all ready sessions together;
the event loop reads requests, and writes what the engine has made.
"""
