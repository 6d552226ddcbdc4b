"""What an evaluation compares, block by block."""
