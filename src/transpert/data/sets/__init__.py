"""Sets of cells: which ones, in which batches, ahead of time."""
