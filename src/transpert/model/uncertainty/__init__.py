"""How far a prediction may be off."""
