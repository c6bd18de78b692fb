"""Reduce flicker: smooth metric depth over time, per pixel, and follow motion at once.

Works in log depth, because a network's error grows with depth. With x = ln depth of this picture, s the memory, dt the
time since the last picture and e = x - s:

    s <- s + g e,    g = a + (1 - a) min(1, (m / tolerance)^2),    a = 1 - exp(-dt / time_constant)

m is the mean of e over cells of 16 x 16 pixels, interpolated between cells. Noise averages out in a cell, a change of
the scene does not. g = 1, so that nothing is remembered, where a pixel's own e is larger than noise can be (a moving
edge), and everywhere when more than half of the cells changed by more than the tolerance (another scene, or a moving
camera).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.filters.arrays import Depth, like, to_tensor

TIME_CONSTANT_S = 1.0
TOLERANCE = 0.015  # share of depth: a larger change of a cell's mean is motion, so no lag is larger either
CELL_PX = 16
# A single pixel's change that is motion: as a share of depth, and in standard deviations of the picture's noise.
PIXEL_TOLERANCE, PIXEL_SIGMAS = 0.05, 5.0
SIGMA_OF_MEDIAN = 1.4826  # standard deviation of normal noise over the median of its absolute value
SAMPLE_STEP_PX = 4  # the noise is measured on every fourth row and column
CHANGED_SHARE = 0.5  # where a larger share of the cells changed, nothing is remembered
LONGEST_GAP = 5.0  # in time constants


class TemporalFilter:
    """Smooths the depth of one camera. Keep one for each camera, and call it from one thread.

    Args:
        time_constant_s: how far back the average reaches, in seconds. At 10 Hz and 1 s, independent noise keeps 22 %
            of its standard deviation.
        tolerance: share of depth. Flicker of whole regions above it counts as motion and stays. Motion below it is
            delayed by the time constant.

    Raises:
        SettingsError: a number that is not positive and finite.
    """

    def __init__(self, time_constant_s: float = TIME_CONSTANT_S, tolerance: float = TOLERANCE) -> None:
        for name, number in (("time_constant_s", time_constant_s), ("tolerance", tolerance)):
            if not 0 < number < math.inf:
                raise SettingsError(f"{name} of the temporal filter must be a positive number, got {number}")
        self.time_constant_s = time_constant_s
        self.tolerance = tolerance
        self.reset()

    def reset(self) -> None:
        """Forget everything, as needed for another model or another scale of depth."""
        self._memory: Tensor | None = None  # ln depth (H, W), NaN where none was seen yet
        self._stamp_s = -math.inf

    def __call__(self, depth: Depth, stamp_s: float) -> Depth:
        """Smooth one picture's depth.

        Forgets everything when `stamp_s` does not grow or jumps by more than five time constants, and when size or
        device change.

        Args:
            depth: float32 (H, W), metres; a NumPy array, or a torch tensor on any device. NaN, infinite, zero and
                negative values are returned unchanged, and the memory of their pixel stays as it is.
            stamp_s: when the picture was taken, in seconds.

        Returns:
            float32 (H, W), metres, of the kind and on the device of `depth`.

        Raises:
            InputError: not floating-point (H, W), or empty.
        """
        return like(depth, self._smoothed(to_tensor(depth), stamp_s))

    def _smoothed(self, depth: Tensor, stamp_s: float) -> Tensor:
        gap_s, self._stamp_s = stamp_s - self._stamp_s, stamp_s
        with torch.inference_mode():
            valid = torch.isfinite(depth) & (depth > 0)
            latest = torch.where(valid, depth, torch.nan).log()
            if not self._remembers(depth, gap_s):
                self._memory = latest
                return depth
            self._memory = self._blend(latest, 1 - math.exp(-gap_s / self.time_constant_s))
            return torch.where(valid, self._memory.exp(), depth)

    def _remembers(self, depth: Tensor, gap_s: float) -> bool:
        memory = self._memory
        fits = memory is not None and memory.shape == depth.shape and memory.device == depth.device
        return fits and 0 < gap_s <= LONGEST_GAP * self.time_constant_s  # NaN fails, too

    def _blend(self, latest: Tensor, least_gain: float) -> Tensor:
        """Return the new memory: a pixel without a latest value keeps its own, one without memory takes the latest."""
        assert self._memory is not None
        memory = torch.where(self._memory.isnan(), latest, self._memory)
        change = (latest - memory).nan_to_num(0.0)
        return memory + self._gain(change, least_gain) * change

    def _gain(self, change: Tensor, least_gain: float) -> Tensor:
        """Return the share of each pixel's change (H, W) that is taken over: `least_gain` for noise, up to 1."""
        height, width = change.shape
        cells = F.adaptive_avg_pool2d(change[None, None], (math.ceil(height / CELL_PX), math.ceil(width / CELL_PX)))
        scene_changed = (cells.abs() > self.tolerance).float().mean() > CHANGED_SHARE
        motion = F.interpolate((cells / self.tolerance).square().clamp(max=1), (height, width), mode="bilinear")[0, 0]
        size = change.abs()
        sigma = SIGMA_OF_MEDIAN * size[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX].median()
        forgets = scene_changed | (size > (PIXEL_SIGMAS * sigma).clamp(min=PIXEL_TOLERANCE))
        return torch.where(forgets, 1.0, least_gain + (1 - least_gain) * motion)
