"""Lens models and their coefficients, under the names that drivers give them."""

from __future__ import annotations

from collections.abc import Sequence

# Distortion model -> numbers of coefficients that OpenCV takes for it (0: an ideal pinhole).
DISTORTION_MODELS: dict[str, tuple[int, ...]] = {
    "": (0,),
    "plumb_bob": (0, 4, 5),
    "rational_polynomial": (0, 8, 12, 14),
    "equidistant": (4,),  # all zero is an ideal fisheye, not a pinhole
}
# Other names of these models in drivers and calibration tools, in lower case with underscores.
LENS_ALIASES = {
    "radtan": "plumb_bob",  # Kalibr
    "radial_tangential": "plumb_bob",
    "brown_conrady": "plumb_bob",
    "rational": "rational_polynomial",
    "fisheye": "equidistant",  # OpenCV
    "equi": "equidistant",  # Kalibr
    "kannala_brandt": "equidistant",
    "kannala_brandt4": "equidistant",
    "none": "",
    "pinhole": "",
}


def read_lens(name: str, d: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """Return the distortion model and coefficients that a CameraInfo's `distortion_model` and D mean.

    Drivers use other names (`LENS_ALIASES`), leave out zeros at the end or add some, and call polynomials of any length
    `plumb_bob`. All that can be read, because OpenCV's order of coefficients is the same for all polynomial models.
    All zeros are an ideal pinhole, except for `equidistant`, where they are an ideal fisheye. What has no plain meaning
    is returned unchanged, and `CameraModel` refuses it.
    """
    numbers = tuple(float(number) for number in d)
    plain_name = name.strip().lower().replace("-", "_").replace(" ", "_")
    model = plain_name if plain_name in DISTORTION_MODELS else LENS_ALIASES.get(plain_name, name)
    if not any(numbers) and not (model == "equidistant" and numbers):
        return "", ()
    used = max(i + 1 for i, number in enumerate((1.0, *numbers)) if number) - 1  # without zeros at the end
    if model == "" and len(numbers) >= 5:
        model = "plumb_bob"
    if model == "plumb_bob" and used > 5:
        model = "rational_polynomial"
    counts = DISTORTION_MODELS.get(model, ())
    if len(numbers) in counts:
        return model, numbers
    count = min((count for count in counts if count >= used), default=len(numbers))
    return model, (*numbers, *(0.0,) * count)[:count]
