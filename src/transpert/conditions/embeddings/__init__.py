"""Vectors of perturbations, looked up by name."""
