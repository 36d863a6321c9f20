"""Task models, assembled from nn, and how to load them from a run folder."""
