"""Folders, videos and bags in, depth out."""
