"""Exit statuses by which a worker process tells the supervisor whether a new one may do better."""

from __future__ import annotations

WORKER_UNABLE = 3  # exit status: it would fail the same way again
WORKER_FAILED = 4  # exit status: its device is lost to it, a new process may do better
