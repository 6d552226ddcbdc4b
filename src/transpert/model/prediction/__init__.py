"""From requests to predicted cells."""
