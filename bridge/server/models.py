"""Models of a server: which ones clients may ask for, their settings, and loading those named at start."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch

from bridge.server.errors import InvalidValue, RequestError, WeightsMissing, WeightsUnusable
from bridge.server.metrics import Metrics
from bridge.server.named_models import models_to_preload
from bridge.server.schemas import CloudOptions, MetricOptions, Options
from bridge.server.settings import BridgeSettings
from bridge.server.state import WorkerState
from depth_anything_ros.errors import (
    CheckpointError,
    CheckpointMismatch,
    CheckpointNotFound,
    DownloadError,
    LicenseNotAccepted,
)
from depth_anything_ros.model.checkpoint_search import bundled_checkpoint, find_checkpoint, hub_repository
from depth_anything_ros.model.registry import (
    DATASETS,
    ENCODERS,
    dataset_spec,
    encoders_of,
    license_of,
    network_spec,
)
from depth_anything_ros.model.weights import UNTRAINED
from depth_anything_ros.serving.model_cache import ModelCache
from depth_anything_ros.settings import ModelSettings

logger = logging.getLogger(__name__)

FREE_LICENSE = "Apache-2.0"  # the others have to be agreed to before a download


def model_settings(
    settings: BridgeSettings, encoder: str | None = None, dataset: str | None = None, input_size: int | None = None
) -> ModelSettings:
    """Settings of a model that is asked for; None takes the server's default.

    The device is left to the model cache, which spreads requests over those of its worker.
    """
    encoder, dataset = encoder or settings.default_encoder, dataset or settings.default_dataset
    is_default = (encoder, dataset) == (settings.default_encoder, settings.default_dataset)
    return ModelSettings(
        encoder=encoder,
        dataset=dataset,
        checkpoint=settings.checkpoint if is_default or settings.checkpoint == UNTRAINED else None,
        input_size=input_size or settings.default_input_size,
        precision=settings.precision,
        backend=settings.backend,
        compile=settings.compile,
        download=settings.download,
        accept_license=settings.accept_license,
    )


def choose_model(options: Options, settings: BridgeSettings) -> ModelSettings:
    """The model that a request asks for.

    Raises:
        InvalidValue: the dataset has no such encoder, or no weights of it anywhere; no metres for an endpoint in
            metres, or nothing else for one without.
    """
    model = model_settings(settings, options.encoder, options.dataset, options.model_input_size)
    spec = dataset_spec(model.dataset)
    if model.encoder not in encoders_of(model.dataset):
        allowed = ", ".join(name for name in encoders_of(model.dataset) if name in known_encoders(settings))
        raise InvalidValue(f"dataset {model.dataset} has no encoder {model.encoder}; it has {allowed}", "encoder")
    _require_that_weights_exist(model, settings)
    if isinstance(options, MetricOptions):
        if spec.kind != "metric" and not is_unitless_cloud(options):
            raise InvalidValue(f"dataset {model.dataset} has no metres; use /rel_depth", "dataset")
        if max_depth_of(model.dataset) is None and options.max_depth is not None:
            raise InvalidValue(f"max_depth does not apply to dataset {model.dataset}: leave it out", "max_depth")
    elif spec.needs_focal:
        raise InvalidValue(f"dataset {model.dataset} has metres only; use /metric_depth", "dataset")
    return model


def _require_that_weights_exist(model: ModelSettings, settings: BridgeSettings) -> None:
    """Refuse an encoder and a dataset that nobody trained together; what the server is started with is not asked."""
    is_default = (model.encoder, model.dataset) == (settings.default_encoder, settings.default_dataset)
    is_published = ENCODERS[model.encoder].license is not None
    if is_published and not is_default and _weights(model) is None:
        raise InvalidValue(
            f"encoder {model.encoder} has no weights for dataset {model.dataset}; GET /models lists what has", "encoder"
        )


def is_unitless_cloud(options: MetricOptions) -> bool:
    """Whether points up to a factor are asked for: by name, because /pc is in metres else."""
    is_named = options.dataset is not None and dataset_spec(options.dataset).kind == "scale_invariant"
    return isinstance(options, CloudOptions) and is_named


def estimates_focal(model: ModelSettings) -> bool:
    """Whether a model tells a focal length, so that a request for points need not."""
    return "field_of_view" in network_spec(model.dataset).outputs


def known_encoders(settings: BridgeSettings) -> list[str]:
    """Encoders to ask for: those whose weights have a licence, the server's own, and all where weights are random."""
    own = (settings.default_encoder, *(text.partition(":")[0] for text in settings.preload))
    is_untrained = settings.checkpoint == UNTRAINED
    return [name for name, spec in ENCODERS.items() if spec.license or name in own or is_untrained]


def models_of(settings: BridgeSettings, cache: ModelCache) -> dict[str, Any]:
    """What `GET /models` says (`schemas.ModelsReply`)."""
    loaded = cache.models_loaded()
    known = known_encoders(settings)
    pairs = [(encoder, dataset) for dataset in DATASETS for encoder in known if encoder in encoders_of(dataset)]
    models = [
        {
            "encoder": encoder,
            "dataset": dataset,
            "kind": DATASETS[dataset].kind,
            "max_depth": max_depth_of(dataset),
            "needs_focal": DATASETS[dataset].needs_focal,
            "license": license_of(encoder, dataset),
            "weights": weights,
            "loaded": [key for key in loaded if key.startswith(f"{encoder}_{dataset}_")],
        }
        for encoder, dataset in pairs
        if (weights := _weights(model_settings(settings, encoder, dataset)))
    ]
    return {"default": model_settings(settings).key, "models": models}


def max_depth_of(dataset: str) -> float | None:
    """Metres at the network's full output; None where the dataset has no metres, or they follow from the camera."""
    spec = dataset_spec(dataset)
    return spec.max_depth_m if spec.kind == "metric" and not spec.needs_focal else None


def _weights(model: ModelSettings) -> str | None:
    """Where a model's weights are; None where no weights exist."""
    if model.checkpoint is not None:
        return "untrained" if model.checkpoint == UNTRAINED else "here"
    if find_checkpoint(model.encoder, model.dataset) or bundled_checkpoint(model.encoder, model.dataset):
        return "here"
    if hub_repository(model.encoder, model.dataset) is None:
        return None
    may_download = model.download and (model.accept_license or license_of(model.encoder, model.dataset) == FREE_LICENSE)
    return "download" if may_download else "missing"


def without_weights(error: CheckpointError, model: ModelSettings) -> RequestError:
    """Tell a client which model cannot be loaded; the error's own words hold paths."""
    name = f"encoder {model.encoder} with dataset {model.dataset}"
    if isinstance(error, LicenseNotAccepted):
        return WeightsMissing(f"{name} has a non-commercial licence, which the operator of the server has not accepted")
    if isinstance(error, (CheckpointNotFound, DownloadError)):
        return WeightsMissing(f"this server has no weights for {name}; GET /models lists those it has")
    what = "those of another model" if isinstance(error, CheckpointMismatch) else "damaged"
    return WeightsUnusable(f"this server's weights for {name} are {what}")


def models_at_start(settings: BridgeSettings) -> list[ModelSettings]:
    """Models to load before requests are taken. Raises SettingsError, as `models_to_preload`."""
    return [model_settings(settings, *model) for model in models_to_preload(settings)]


def warn_without_weights(settings: BridgeSettings) -> None:
    """Log that the default model cannot answer; requests may still name another."""
    model = model_settings(settings)
    if _weights(model) in (None, "missing"):
        logger.warning(
            "no weights for the default model %s: requests that name no other get 503. `depth_anything download` "
            "fetches weights, --default-encoder and --default-dataset choose another model",
            model.key,
        )


def record_models(cache: ModelCache, metrics: Metrics) -> None:
    """Count the models that are loaded, and the memory of their GPUs."""
    metrics.models.set(len(cache.models_loaded()))
    for device in cache.devices:
        if device.startswith("cuda"):
            metrics.gpu_memory.labels(device).set(torch.cuda.memory_allocated(device))


def preload(cache: ModelCache, state: WorkerState, metrics: Metrics) -> None:
    """Load `state.to_load` onto every device. Blocks: run it in a thread of its own."""
    try:
        while state.to_load:
            for device in cache.devices:
                cache.get(replace(state.to_load[0], device=device))
            state.to_load.pop(0)
    except Exception as error:
        logger.error("cannot load %s: %s", state.to_load[0].key, error)
        state.preload_failed = True
    record_models(cache, metrics)
