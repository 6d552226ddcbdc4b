"""Counts on disk, grouped by condition."""
