"""Notebooks end to end: plan, run, verify, publish."""
