"""CUDA graphs: a network's launches are recorded once for each batch and size, and replayed as one.

At batch 1 a GPU runs the small encoders faster than Python can launch them. `Graphs` decides without
CUDA which shapes are captured and dropped; only `CapturedGraph` needs a GPU.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from depth_anything_ros.runtime.device import _capturing

logger = logging.getLogger(__name__)

Run = Callable[[Tensor], tuple[Tensor, ...]]
Key = tuple[int, ...]  # batch, h, w
MAX_GRAPHS = 8  # four batches of two sizes
SIDE_RUNS = 3  # before a capture: libraries choose algorithms and allocate workspaces in them


class Graph(Protocol):
    """Computes what the network computes, for one shape."""

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]: ...

    def release(self) -> None:
        """Free its memory. It is not called again."""


class Graphs:
    """Runs a network, by a graph if there is one for the shape.

    A shape is captured when it comes the second time: one that never returns costs nothing, and many shapes
    do not evict each other at every image. After a failed capture none is tried again. Not thread-safe: the
    caller holds `device_lock(device)`.

    Args:
        run: the network, float32 (B, 3, h, w) -> its outputs.
        capture: makes a graph for the shape of its argument. Raises RuntimeError.
        capacity: how many graphs are kept; the least recently used goes.
    """

    def __init__(self, run: Run, capture: Callable[[Tensor], Graph], capacity: int = MAX_GRAPHS) -> None:
        self._run = run
        self._capture = capture
        self._capacity = capacity
        self._graphs: OrderedDict[Key, Graph] = OrderedDict()
        self._seen: OrderedDict[Key, None] = OrderedDict()  # shapes seen once
        self._works = True

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        key = (x.shape[0], *x.shape[2:])
        graph = self._graphs.get(key)
        if graph is None and self._works and self._is_due(key):
            graph = self._captured(key, x)
        if graph is None:
            return self._run(x)
        self._graphs.move_to_end(key)
        return graph(x)

    def __len__(self) -> int:
        """Number of graphs."""
        return len(self._graphs)

    def _is_due(self, key: Key) -> bool:
        if key in self._seen:
            del self._seen[key]
            return True
        self._seen[key] = None
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return False

    def _captured(self, key: Key, x: Tensor) -> Graph | None:
        while len(self._graphs) >= self._capacity:
            self._graphs.popitem(last=False)[1].release()
        try:
            self._graphs[key] = self._capture(x)
        except RuntimeError as error:  # out of memory is one
            self._works = False
            logger.warning("no CUDA graph for %dx%dx%d; continuing without graphs: %s", *key, error)
            return None
        logger.info("CUDA graph captured for %dx%dx%d", *key)
        return self._graphs[key]


class CapturedGraph:
    """One CUDA graph, its input and its output. See torch's notes on CUDA graphs.

    Everything is queued on the caller's current stream: input in, replay, output out. So the output is copied
    before the next replay overwrites it, and graphs may share a pool of memory.

    Args:
        run: the network; from here on its weights must stay where they are.
        x: an input of the shape to capture.
        stream: used for the capture; one for all graphs of a pool.
        pool: of `torch.cuda.graph_pool_handle`.
        kept: tensors that the network may drop from its cache; the graph holds their addresses only.
    """

    def __init__(self, run: Run, x: Tensor, stream: torch.cuda.Stream, pool: Any, kept: object) -> None:
        self._kept = kept
        self._device = x.device
        self._input = x.clone(memory_format=torch.contiguous_format)
        self._graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(x.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(SIDE_RUNS):
                run(self._input)
        current.wait_stream(stream)
        # thread_local: other threads may upload and download during the capture.
        with _capturing, torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self._outputs = run(self._input)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queue copy in, replay and copy out; wait for nothing."""
        self._input.copy_(x)
        self._graph.replay()
        return tuple(output.clone() for output in self._outputs)

    def release(self) -> None:
        """Wait for replays under way, then free the graph."""
        torch.cuda.current_stream(self._device).synchronize()
        self._graph.reset()


def graphs_on(device: torch.device, run: Run, kept: Callable[[int, int], object]) -> Graphs:
    """Return `Graphs` of a network on a CUDA device.

    Args:
        kept: returns what the network caches for (h, w).
    """
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    pool = torch.cuda.graph_pool_handle()

    def capture(x: Tensor) -> Graph:
        return CapturedGraph(run, x, stream, pool, kept(x.shape[2], x.shape[3]))

    return Graphs(run, capture)
