"""SCALE: an anchor in closed form, and networks as far as they help."""
