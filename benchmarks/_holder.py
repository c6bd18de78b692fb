"""Hold one estimator and say how much memory that takes.

`python -m benchmarks._holder ENCODER DATASET CHECKPOINT BACKEND PRECISION`
"""

from __future__ import annotations

import json
import resource
import sys

from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.runtime.hardware import resident_bytes
from depth_anything_ros.runtime.threads import share_cores

ESTIMATES = 5


def main() -> None:
    """Print resident MiB after the imports, the load and some estimates of 640x480, and at the worst moment."""
    encoder, dataset, checkpoint, backend, precision = sys.argv[1:]
    share_cores()
    resident_mib = {"imports": mib()}
    estimator = DepthEstimator.load(encoder, dataset, checkpoint, device="cpu", precision=precision, backend=backend)
    resident_mib["loaded"] = mib()
    for _ in range(ESTIMATES):
        estimator.warm_up(480, 640)
    resident_mib["estimated"] = mib()
    resident_mib["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"backend": f"{estimator.backend.name} {estimator.backend.precision}", **resident_mib}))


def mib() -> int:
    """Resident set of this process."""
    return (resident_bytes() or 0) >> 20


if __name__ == "__main__":
    main()
