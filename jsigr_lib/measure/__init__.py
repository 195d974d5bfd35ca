"""What a map or a robustness number is worth, as pure functions."""
