"""How the networks of SCALE are trained."""
