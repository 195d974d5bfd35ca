"""Images as tensors: readers and splits."""
