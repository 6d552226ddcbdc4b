"""Screens of many designs that nobody picked, and by how much each method falls short of the best baseline on them."""
