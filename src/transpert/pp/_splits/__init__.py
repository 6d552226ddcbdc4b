"""What a split holds out, what leaks from it, and how it is written."""
