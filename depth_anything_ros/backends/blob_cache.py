"""Files of compiled networks, for a fast second start: bound to what they depend on, and bounded in size."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from depth_anything_ros.errors import InputError
from depth_anything_ros.files.bounded_files import open_regular
from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.version import __version__

logger = logging.getLogger(__name__)

MAX_CACHE_BYTES = 4 * 2**30
DIGEST_BYTES = hashlib.sha256().digest_size


def fingerprint(network: DepthNetwork) -> str:
    """SHA-256 over names, shapes and values of all weights, as hexadecimal."""
    digest = hashlib.sha256(f"{type(network).__name__} {network.extra_repr()}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).data)
    return digest.hexdigest()


class BlobCache:
    """A folder of files, one per key. The key is everything that the content depends on.

    A file starts with the SHA-256 of its key and content. So a damaged file, or one under another key's
    name, is never handed to a native parser. The least recently used files go when all together exceed
    `max_bytes`. A folder that cannot be read or written costs time, nothing else. `None` in place of the
    folder keeps nothing.
    """

    def __init__(self, folder: Path | None, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def load(self, *depends_on: object) -> bytes | None:
        """Return the content kept under these values, or None."""
        if self._folder is None:
            return None
        key = _key(depends_on)
        path = self._folder / _name(key)
        try:
            with open_regular(path) as file:
                if os.fstat(file.fileno()).st_size > self._max_bytes:
                    logger.warning("%s is larger than the whole cache may be; building it again", path)
                    return None
                digest, blob = file.read(DIGEST_BYTES), file.read()
            os.utime(path)  # used just now
        except (InputError, OSError):
            return None
        if _digest(key, blob) != digest:
            logger.warning("%s is damaged or belongs to another network; building it again", path)
            return None
        return blob

    def store(self, blob: bytes, *depends_on: object) -> None:
        """Keep a content under these values. Its file appears when it is complete."""
        if self._folder is None:
            return
        try:
            key = _key(depends_on)
            self._folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=".partial-", dir=self._folder) as folder:
                partial = Path(folder, "blob")
                with partial.open("wb") as file:
                    file.write(_digest(key, blob))
                    file.write(blob)
                partial.replace(self._folder / _name(key))
            self._make_room(self._folder)
        except OSError as error:
            logger.warning(
                "cannot keep a compiled network in %s; the next start compiles again: %s", self._folder, error
            )

    def _make_room(self, folder: Path) -> None:
        """Delete the oldest, but never the one that was just written."""
        newest_first = sorted(folder.glob("*.blob"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        total = 0
        for path in newest_first:
            total += path.stat().st_size
            if total > self._max_bytes and path is not newest_first[0]:
                path.unlink(missing_ok=True)


def _key(depends_on: tuple[object, ...]) -> bytes:
    return json.dumps([__version__, *map(str, depends_on)]).encode()


def _name(key: bytes) -> str:
    return f"{hashlib.sha256(key).hexdigest()[:32]}.blob"


def _digest(key: bytes, blob: bytes) -> bytes:
    digest = hashlib.sha256(hashlib.sha256(key).digest())
    digest.update(blob)
    return digest.digest()
