"""Pages to read offline."""
