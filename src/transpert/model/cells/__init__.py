"""The cells a model is given: in memory or in a store."""
