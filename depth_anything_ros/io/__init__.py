"""Files: pictures, videos, depth, clouds, snapshots."""
