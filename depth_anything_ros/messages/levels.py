"""Black and white level of 16-bit pictures whose sensor has fewer bits, or counts from an offset.

Cameras of 10 or 12 bits often use the low end of 16 bits (mono16, bayer16, rgb16, PNG). Cut to its high byte, such a
picture is nearly black. A thermal camera that counts from 7000 to 8500 gives a single shade of grey. The message does
not say so. So the user sets the levels, or they are found in the first picture and held.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.messages.remarks import Remark, unheard

FULL_WHITE = 65535
SENSOR_BITS = (8, 10, 12, 14, 16)
PERCENTILES = (0.1, 99.9)  # leave out stuck pixels and a row of telemetry
SAMPLED_PER_SIDE = 128
# A sensor counts from an offset if its darkest pixel is above this share of the brightest.
OFFSET_SHARE = 0.5
MIN_WIDTH_SHARE = 1 / 8  # of the brightest value, from black to white: a blank wall is not stretched to its noise
# Levels are widened when so many pictures in a row exceed them: one flash changes nothing.
WIDEN_AFTER = 3


class Levels(NamedTuple):
    """16-bit values that become 0 and 255."""

    black: int
    white: int


class LevelFinder:
    """Finds and applies the levels of one camera. Use it from one thread, for pictures in their order.

    The levels are found in the first picture that is not all zero. After that they only widen, when pictures keep
    having pixels brighter than white, or, if black was found above 0, darker than black.

    Args:
        black_level, white_level: known levels, in counts; 0 finds them.
        remark: told what was found.

    Raises:
        SettingsError: levels outside 0 to 65535, or white that is not above black.
    """

    def __init__(self, black_level: int = 0, white_level: int = 0, remark: Remark = unheard) -> None:
        for name, level in (("black_level", black_level), ("white_level", white_level)):
            if not 0 <= level <= FULL_WHITE:
                raise SettingsError(f"{name} must be from 0 to {FULL_WHITE}, got {level}")
        if 0 < white_level <= black_level:
            raise SettingsError(f"white_level must be above black_level, got {white_level} and {black_level}")
        self._set_black = black_level
        self._remark = remark
        self._is_set = white_level > 0
        self._seen: tuple[float, float] | None = None  # darkest and brightest
        self._exceeded = 0
        self._use(Levels(black_level, white_level or FULL_WHITE))

    @property
    def levels(self) -> Levels:
        """The levels that apply now."""
        return self._levels

    def to_uint8(self, pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Map 16-bit pixels of any shape and byte order to 8 bits, black to 0 and white to 255."""
        if not self._is_set:
            self._look(pixels)
        if self._shift is not None:
            return np.asarray(np.minimum(pixels, self._levels.white) >> self._shift, np.uint8)
        return np.asarray(self._table[pixels])

    def _look(self, pixels: NDArray[np.uint16]) -> None:
        darkest, brightest = _extremes(pixels)
        if brightest == 0:
            return
        if self._seen is None:
            self._found(darkest, brightest)
            return
        black, white = self._levels
        exceeds = brightest > white or (self._set_black < black and darkest < black)
        self._exceeded = self._exceeded + 1 if exceeds else 0
        if self._exceeded >= WIDEN_AFTER:
            self._found(min(darkest, self._seen[0]), max(brightest, self._seen[1]))

    def _found(self, darkest: float, brightest: float) -> None:
        self._seen, self._exceeded = (darkest, brightest), 0
        found = levels_of(darkest, brightest)
        black = self._set_black or found.black
        levels = Levels(black, max(found.white, black + 1))
        if levels != self._levels:
            self._use(levels)
            self._remark(
                f"16-bit pictures: {levels.black} is taken for black and {levels.white} for white, as found in the "
                "pictures; set black_level and white_level if that is wrong"
            )

    def _use(self, levels: Levels) -> None:
        self._levels = levels
        bits = levels.white.bit_length()
        is_shift = levels.black == 0 and levels.white == (1 << bits) - 1 and bits >= 8
        self._shift = bits - 8 if is_shift else None
        self._table = np.empty(0, np.uint8) if is_shift else _table(levels)


def levels_of(darkest: float, brightest: float) -> Levels:
    """Return the levels of a sensor whose pictures have these values.

    Black is 0, and white is the largest value of 8, 10, 12, 14 or 16 bits. But if the darkest value is above half of
    the brightest, the levels are these two values.
    """
    if darkest <= OFFSET_SHARE * brightest:
        return Levels(0, next(white for bits in SENSOR_BITS if (white := (1 << bits) - 1) >= brightest))
    missing = max(0.0, MIN_WIDTH_SHARE * brightest - (brightest - darkest)) / 2
    return Levels(max(0, int(darkest - missing)), min(FULL_WHITE, int(np.ceil(brightest + missing))))


def _extremes(pixels: NDArray[np.uint16]) -> tuple[float, float]:
    """Return the darkest and the brightest value of a picture (H, W, ...) without a few extreme pixels."""
    # Odd steps meet all colours of a mosaic.
    rows, columns = (max(1, size // SAMPLED_PER_SIDE) | 1 for size in pixels.shape[:2])
    darkest, brightest = np.percentile(pixels[::rows, ::columns], PERCENTILES)
    return float(darkest), float(brightest)


def _table(levels: Levels) -> NDArray[Any]:
    counts = np.arange(FULL_WHITE + 1, dtype=np.float64)
    share = (counts - levels.black) / (levels.white - levels.black)
    return np.asarray(np.rint(np.clip(share, 0, 1) * 255), np.uint8)
