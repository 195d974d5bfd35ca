"""What an outside user imports: the defence, its attacks and its maps. It needs torch alone."""
