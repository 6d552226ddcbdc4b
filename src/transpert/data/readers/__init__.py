"""Cells in files, read block by block."""
