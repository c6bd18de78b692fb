"""Prometheus metrics of one worker, or of all of them together where there are several.

Workers share their numbers through files in `PROMETHEUS_MULTIPROC_DIR`, which the supervisor sets before it starts
more than one. So any worker can answer for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from depth_anything_ros.runtime.stopwatch import Stopwatch
from depth_anything_ros.version import __version__

SHARED_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
STAGES = ("queue", "decode", "infer", "encode")


class Metrics:
    """Everything that is counted.

    Args:
        labels: on every sample, such as which replica tells it.
    """

    def __init__(self, labels: Mapping[str, str] | None = None) -> None:
        self._labels = dict(labels or {})
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "depth_bridge_requests", "Requests answered", ("path", "method", "status"), registry=registry
        )
        self.duration = Histogram(
            "depth_bridge_request_duration_seconds", "Whole requests", ("path",), registry=registry, buckets=BUCKETS_S
        )
        self.stages = Histogram(
            "depth_bridge_stage_duration_seconds", "Parts of them", ("stage",), registry=registry, buckets=BUCKETS_S
        )
        self.rejected = Counter("depth_bridge_rejected", "Requests refused", ("reason",), registry=registry)
        self.waiting = self._gauge("queue_depth", "Requests that wait for a device")
        self.in_flight = self._gauge("in_flight", "Requests accepted and not answered yet")
        self.models = self._gauge("models_loaded", "Models in memory")
        self.gpu_memory = self._gauge("gpu_memory_bytes", "GPU memory taken by tensors", "device")
        self.streams = self._gauge("streams", "Streams of the robot's cameras")
        self.stream_frames = Counter("depth_bridge_stream_frames", "Frames sent", ("what",), registry=registry)
        self.stream_bytes = Counter("depth_bridge_stream_bytes", "Bytes of frames sent", ("what",), registry=registry)
        build = Gauge("depth_bridge_build_info", "Version", ("version",), registry=registry, multiprocess_mode="max")
        build.labels(__version__).set(1)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"depth_bridge_{name}", text, labels, registry=self._registry, multiprocess_mode="livesum")

    def record_stages(self, watch: Stopwatch) -> None:
        """Count the stages of one request."""
        for stage, seconds in watch.seconds.items():
            self.stages.labels(stage).observe(seconds)

    def render(self) -> bytes:
        """All metrics in the Prometheus text format."""
        registry = self._registry
        if SHARED_FOLDER_VARIABLE in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(_Labelled(registry, self._labels) if self._labels else registry)


class _Labelled(CollectorRegistry):
    """What a registry holds, with more labels on every sample."""

    def __init__(self, registry: CollectorRegistry, labels: Mapping[str, str]) -> None:
        super().__init__()
        self._registry = registry
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        """See CollectorRegistry."""
        for metric in self._registry.collect():
            metric.samples = [sample._replace(labels={**sample.labels, **self._labels}) for sample in metric.samples]
            yield metric
