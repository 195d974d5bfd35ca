"""Tables and arrays in, (figure, alternative text) out."""
