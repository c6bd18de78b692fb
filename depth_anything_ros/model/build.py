"""A network by the names of its encoder and dataset."""

from __future__ import annotations

from collections.abc import Callable

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.model.depth_anything_3 import DepthAnything3
from depth_anything_ros.model.depth_anything_3_views import DepthAnything3Views
from depth_anything_ros.model.depth_anything_v2 import DepthAnythingV2
from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.model.registry import EncoderSpec, dataset_spec, encoder_for

BUILDERS: dict[str, Callable[[EncoderSpec, Kind], DepthNetwork]] = {
    "v2": DepthAnythingV2,
    "da3": lambda spec, _: DepthAnything3(spec),
    "da3_views": lambda spec, _: DepthAnything3Views(spec),
}


def build_model(encoder: str, dataset: str) -> DepthNetwork:
    """Build the network of an encoder and a dataset, its weights not yet set, on torch's current default device.

    Raises:
        SettingsError: an unknown name, or the dataset has no such encoder.
    """
    spec, trained = encoder_for(encoder, dataset), dataset_spec(dataset)
    return BUILDERS[trained.network](spec, trained.kind)
