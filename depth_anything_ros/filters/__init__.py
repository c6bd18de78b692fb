"""Filters of depth: over time, and at edges. They take NumPy arrays and torch tensors."""
