"""From files to integer batches: readers, vocabulary, cached token ids, contiguous streams, downloads."""
