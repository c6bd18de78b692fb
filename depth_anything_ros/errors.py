"""Every error this project raises on purpose.

::

    DepthAnythingError
    ├── InputError                 what the caller handed over cannot be used
    │   ├── ImageError             image or image message: shape, dtype, encoding, size caps
    │   ├── CameraError            CameraInfo: uncalibrated, non-finite, size mismatch, unknown distortion
    │   ├── RangeError             message of a range sensor: steps, fields, angles, limits
    │   ├── FitRefused             evidence that does not tell the scale: too little, or it does not agree
    │   │   └── NoReading          nothing was measured at the time of this picture
    │   ├── SettingsError          a setting or parameter: unknown name, value out of range
    │   ├── CannotWrite            a file or folder that cannot be written
    │   ├── OtherRun               a folder with another run's results
    │   └── DamagedMessage         a message that does not match its type
    ├── CheckpointError            weights
    │   ├── CheckpointNotFound     no file in any of the places searched
    │   ├── CheckpointInvalid      not a checkpoint, truncated, damaged
    │   ├── CheckpointMismatch     a sound checkpoint, but of another encoder or kind
    │   ├── LicenseNotAccepted     non-commercial weights that nobody agreed to
    │   └── DownloadError          the hub could not be reached, or sent something else
    ├── DeviceError                no such device on this machine
    │   └── OutOfMemory            the device ran out of memory; the next request may work
    └── BackendError               no such backend, or its library is missing

Messages name the thing, the value and what is allowed. They may contain paths, so a server
maps the *class* to its own words and never forwards the text.
"""

import math
import reprlib

MAX_LINE = 2000
MAX_TEXT = 4000
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


class DepthAnythingError(Exception):
    """Root of the tree: catch this to catch everything the project raises on purpose."""


class InputError(DepthAnythingError, ValueError):
    """The caller's data cannot be used; the same call with the same data fails again."""


class ImageError(InputError):
    """An image, or an image message, that cannot be read or is outside the caps."""


class CameraError(InputError):
    """A camera description that cannot be used to back-project."""


class RangeError(InputError):
    """A LaserScan, Range or PointCloud2 message that cannot be read."""


class FitRefused(InputError):
    """Samples that do not determine the scale of depth: too few, in disagreement, or with an absurd result."""


class NoReading(FitRefused):
    """No message of a range sensor belongs to a picture."""


class SettingsError(InputError):
    """A setting with an unknown name or a value that is not allowed."""


class CheckpointError(DepthAnythingError):
    """Weights that are missing, unusable or not allowed."""


class CheckpointNotFound(CheckpointError):
    """No checkpoint in any of the places searched."""


class CheckpointInvalid(CheckpointError):
    """A file that is not a checkpoint, or is truncated or damaged."""


class CheckpointMismatch(CheckpointError):
    """A sound checkpoint of another encoder or another kind than was asked for."""


class LicenseNotAccepted(CheckpointError):
    """The weights carry a licence that has to be accepted before they are downloaded."""


class DownloadError(CheckpointError):
    """The download failed or delivered something other than what the hub announced."""


class DeviceError(DepthAnythingError):
    """A compute device that does not exist here, or failed."""


class OutOfMemory(DeviceError):
    """The device ran out of memory. What was held for the request is released."""


class BackendError(DepthAnythingError):
    """A backend that does not exist or cannot run here."""


class CannotWrite(InputError):
    """The folder cannot be written to, so nothing that follows can be either."""


class OtherRun(InputError):
    """The folder holds results of another model, another camera or another program."""


class DamagedMessage(InputError):
    """A message in a bag that cannot be read as its type says."""


def os_reason(error: OSError | ValueError) -> str:
    """Return why the system refused a file, in its words. Python raises ValueError for a name that holds NUL."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def describe(error: Exception) -> str:
    """Return an error's message, shortened, with its class where it was not raised on purpose."""
    if isinstance(error, DepthAnythingError):
        return shortened(str(error))
    return shortened(f"{type(error).__name__}: {error}")


def shortened(text: str) -> str:
    """Shorten a text to at most `MAX_TEXT` characters by cutting out its middle."""
    half = MAX_TEXT // 2
    return text if len(text) <= MAX_TEXT else f"{text[:half]} ... {text[-half:]}"


def readable(number: float, digits: int = 3) -> str:
    """Return a number rounded to so many digits, or to a whole one, and without an exponent: 3983, 12.3, 0.00412."""
    if not 0 < abs(number) < 10 ** (digits - 1):
        return f"{number:.0f}"
    return f"{number:.{digits - 1 - math.floor(math.log10(abs(number)))}f}".rstrip("0").rstrip(".")


def quoted(text: object) -> str:
    """Return text from outside, made safe for a message: in quotes, escaped, at most 80 characters."""
    return _SHORT.repr(text)


def plain_line(text: str) -> str:
    """Return text that may hold names from outside as one line for a terminal: escaped, at most 2000 characters."""
    shown = text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)
