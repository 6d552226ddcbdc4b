"""Time and memory of every verb at the size of real screens, made from a seed."""
