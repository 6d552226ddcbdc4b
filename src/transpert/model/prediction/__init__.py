"""From what is asked for to predicted cells."""
