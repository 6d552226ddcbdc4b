"""The parts of a scaling study: which cells a run is trained on, and what came out."""
