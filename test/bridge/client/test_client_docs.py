"""The Python of docs/client.md runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from running_bridge import RunningBridge, encoded

DOCS = (Path(__file__).parents[3] / "docs" / "client.md").read_text()
# What differs between the page and the test's bridge.
CHANGES = {
    "http://robot:8000": "{url}",
    "vits_hypersim_518": "toy_hypersim_56",
    "camera_intrinsics=camera": "camera_intrinsics=camera, base_url='{url}', encoder='toy', model_input_size=56",
}


def test_the_examples_run_as_they_stand(
    running_bridge: RunningBridge, photo: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(encoded(".jpg", photo))
    names: dict[str, object] = {"key": "k1"}
    blocks = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    blocks = [block for block in blocks if "client.cameras()" not in block]  # needs a robot, see test_robot_client
    assert len(blocks) == 2
    for block in blocks:
        for stands, runs in CHANGES.items():
            block = block.replace(stands, runs.replace("{url}", running_bridge.url))
        exec(block, names)
    points = names["points"]
    assert isinstance(points, np.ndarray)
    assert points.shape == (photo.shape[0] * photo.shape[1], 3)
