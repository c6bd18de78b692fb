"""The torch network that others are converted from: let go while nobody needs it, loaded again when somebody does."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from depth_anything_ros.backends.blob_cache import fingerprint
from depth_anything_ros.backends.per_shape import PerShape
from depth_anything_ros.errors import BackendError, CheckpointError
from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.model.dinov2 import MAX_POS_EMBEDS, interpolate_pos_embed

Load = Callable[[], DepthNetwork]


class NetworkSource:
    """Hands out one network, float32 on the CPU. Threads may share it; nobody may change it.

    Args:
        network: loaded already.
        load: loads it again, with the same weights; None keeps `network` for good.

    Attributes:
        fingerprint: of the weights, see `blob_cache.fingerprint`.
        weights: how many numbers they are.
        outputs: names of what the network gives.
        any_size: whether one conversion of it holds for every size.
        embed_dim: width of its tokens.
    """

    def __init__(self, network: DepthNetwork, load: Load | None = None) -> None:
        self._network: DepthNetwork | None = network
        self._load = load
        self._lock = threading.Lock()
        self._deriving = threading.Lock()
        self._holders = 0
        self._derived: dict[Hashable, Any] = {}
        self.fingerprint = fingerprint(network)
        self.weights = sum(parameter.numel() for parameter in network.parameters())
        self.outputs = network.outputs
        self.any_size = network.any_size
        self._grid = network.pretrained.grid
        self.embed_dim = network.pretrained.pos_embed.shape[-1]
        self._pos_embed = network.pretrained.pos_embed.detach().clone()
        self._pos_embeds = PerShape(self._interpolated, MAX_POS_EMBEDS)

    def get(self) -> DepthNetwork:
        """Return the network, loading it again if it was let go.

        Raises:
            BackendError: its file holds other weights by now, or cannot be read any more.
        """
        with self._lock:
            if self._network is None:
                assert self._load is not None
                try:
                    network = self._load()
                except CheckpointError as error:
                    raise BackendError(
                        f"a new image size needs the weights once more, and they cannot be read: {error}"
                    ) from error
                if fingerprint(network) != self.fingerprint:
                    raise BackendError("the checkpoint has changed since it was loaded: load the model again")
                self._network = network
            return self._network

    @contextmanager
    def held(self) -> Iterator[DepthNetwork]:
        """Yield the network. When nobody holds it any more its memory is freed, if it can be loaded again."""
        with self._lock:
            self._holders += 1
        try:
            yield self.get()
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    self._derived.clear()
                    self._network = None if self._load is not None else self._network

    def derived(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what `make` made of the network for a key, once for as long as the network is held."""
        with self._deriving:
            if key not in self._derived:
                self._derived[key] = make()
            return self._derived[key]

    @property
    def loaded_bytes(self) -> int:
        """Memory that the network takes now."""
        return 0 if self._network is None else 4 * self.weights

    def pos_embed(self, rows: int, columns: int) -> Tensor:
        """Position embedding (1, 1 + rows * columns, embed_dim), also while the network is let go.

        Those of the `MAX_POS_EMBEDS` sizes used last are kept: nobody may change them.
        """
        return self._pos_embeds.get((rows, columns))

    def _interpolated(self, grid: tuple[int, int]) -> Tensor:
        return interpolate_pos_embed(self._pos_embed, self._grid, *grid)


def twin(network: DepthNetwork) -> DepthNetwork:
    """Return a copy that shares the weights: its modules can be changed, the network's stay as they are."""
    shared = {id(each): each for each in (*network.parameters(), *network.buffers())}
    copied = copy.deepcopy(network, shared)
    return copied.requires_grad_(False)
