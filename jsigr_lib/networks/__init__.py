"""Architectures, the training loop, and trained networks as artefacts."""
