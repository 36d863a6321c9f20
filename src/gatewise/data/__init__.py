"""Data loading: file readers, vocabularies, cached token ids, contiguous batches and downloads."""
