"""Models that the settings name: read and checked without torch, so that the supervisor can do it before all else."""

from __future__ import annotations

from typing import NamedTuple

from bridge.server.settings import BridgeSettings
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.model.registry import encoder_for


class NamedModel(NamedTuple):
    """What `encoder:dataset:input_size` says."""

    encoder: str
    dataset: str
    input_size: int


def models_to_preload(settings: BridgeSettings) -> list[NamedModel]:
    """Models to load before requests are taken.

    Raises:
        SettingsError: one of them, or the default model, does not exist, or its dataset has no such encoder.
    """
    named = [parse(text, settings) for text in settings.preload]
    pairs = [(model.encoder, model.dataset) for model in named]
    for encoder, dataset in ((settings.default_encoder, settings.default_dataset), *pairs):
        encoder_for(encoder, dataset)
    return named


def parse(text: str, settings: BridgeSettings) -> NamedModel:
    """Read `encoder:dataset:input_size`. Raises SettingsError."""
    low, high = settings.min_input_size, settings.max_input_size
    match text.split(":"):
        case [encoder, dataset, size] if size.isdecimal():
            if not low <= int(size) <= high:
                raise SettingsError(f"preload {text!r}: the input size must be {low} to {high}")
            return NamedModel(encoder, dataset, int(size))
    raise SettingsError(f"preload takes encoder:dataset:input_size, such as vits:hypersim:518, not {text!r}")
