"""What made a file, how a file carries that, and how two runs compare."""
