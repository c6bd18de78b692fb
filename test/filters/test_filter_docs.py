"""Every Python snippet of docs/filters.md runs as it stands, on what an estimate gives: NumPy arrays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import InputError
from depth_anything_ros.filters.edges import mark_flying
from depth_anything_ros.filters.temporal import TemporalFilter

DOCUMENT = Path(__file__).parents[2] / "docs/filters.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
RAMP = np.tile(np.interp(np.arange(64), [0, 30, 34, 63], [2, 2, 5, 5]).astype(np.float32), (48, 1))


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs_on_arrays_and_gives_arrays(snippet: str) -> None:
    names: dict[str, Any] = {"depth": RAMP.copy(), "stamp_s": 12.5, "camera": CameraModel.from_fov(60.0, 64, 48)}
    exec(snippet, names)
    result = names.get("points", names["depth"])
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.float32
    assert result.shape[:2] == (48, 64)


def test_there_is_a_snippet_for_each_filter() -> None:
    assert [name in "".join(SNIPPETS) for name in ("TemporalFilter", "mark_flying")] == [True, True]


def test_arrays_and_tensors_are_filtered_alike() -> None:
    np.testing.assert_array_equal(mark_flying(RAMP), mark_flying(torch.from_numpy(RAMP)).numpy())
    assert np.isnan(mark_flying(RAMP)).any()
    of_arrays, of_tensors = TemporalFilter(), TemporalFilter()
    for i, noise in enumerate(np.random.default_rng(0).normal(1, 0.003, (4, 48, 64))):
        depth = (2.0 * noise).astype(np.float32)
        smooth = of_arrays(depth, 0.1 * i)
        assert isinstance(smooth, np.ndarray)
        np.testing.assert_array_equal(smooth, of_tensors(torch.from_numpy(depth), 0.1 * i).numpy())


def test_an_array_that_may_not_be_written_to_is_taken_and_left_as_it_is() -> None:
    depth = RAMP.copy()
    depth.flags.writeable = False
    mark_flying(depth)
    TemporalFilter()(depth, 1.0)
    np.testing.assert_array_equal(depth, RAMP)


@pytest.mark.parametrize(
    "depth", [np.ones((48, 64), np.uint16), np.ones((2, 48, 64), np.float32), np.ones((0, 64), np.float32)]
)
def test_an_array_that_is_no_depth_is_refused(depth: Any) -> None:
    with pytest.raises(InputError, match=r"float array or tensor \(H, W\)"):
        mark_flying(depth)
    with pytest.raises(InputError, match=r"float array or tensor \(H, W\)"):
        TemporalFilter()(depth, 0.0)
