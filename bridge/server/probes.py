"""Answers about the server: health, liveness, readiness, models, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST

from bridge.server.media import JSON, dump_json
from bridge.server.metrics import Metrics
from bridge.server.models import models_of
from bridge.server.settings import BridgeSettings
from bridge.server.state import WorkerState
from depth_anything_ros.serving.model_cache import ModelCache

Probe = Callable[[], Awaitable[Response]]


def probes(settings: BridgeSettings, state: WorkerState, cache: ModelCache, metrics: Metrics) -> dict[str, Probe]:
    """Path -> what answers it; the docstrings are shown in the API's documentation."""

    async def health() -> Response:
        """State of this worker; needs no key"""
        return _json(health_of(state, cache))

    async def livez() -> Response:
        """Whether the process answers; needs no key"""
        return _json({"status": "alive"})

    async def readyz() -> Response:
        """Whether requests for depth are taken now"""
        body = {"status": state.status, "warnings": settings.warnings}
        return _json(body, 200 if state.status == "ready" else 503)

    async def models() -> Response:
        """Models that can be asked for, whether their weights are here, and under which licence"""
        return _json(models_of(settings, cache))

    async def render() -> Response:
        """Prometheus metrics"""
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return {"/health": health, "/livez": livez, "/readyz": readyz, "/models": models, "/metrics": render}


def health_of(state: WorkerState, cache: ModelCache) -> dict[str, Any]:
    """What `GET /health` says."""
    gpus = [int(name.partition(":")[2]) for name in cache.devices if name.startswith("cuda:")]
    instances = cache.loaded()
    loaded = [model.key for model, _ in instances]
    return {
        "status": "draining" if state.is_draining else "healthy",
        "device": "cuda" if gpus else "cpu",
        "worker_id": state.worker_id,
        **state.labels,
        "gpu_id": gpus[0] if gpus else None,
        "gpu_count": len(gpus),
        "models_loaded": list(dict.fromkeys(loaded)),
        "total_model_instances": len(loaded),
        "model_instances": [
            {
                "model": model.key,
                "device": model.device,
                "backend": estimator.backend.name,
                "precision": estimator.backend.precision,
            }
            for model, estimator in instances
        ],
        "request_counter": state.served,
    }


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(dump_json(body), status, media_type=JSON)
