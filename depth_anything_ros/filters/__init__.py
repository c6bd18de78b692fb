"""Filters of depth: over time, and at edges."""
