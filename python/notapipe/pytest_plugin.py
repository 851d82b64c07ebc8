"""For pytest."""
