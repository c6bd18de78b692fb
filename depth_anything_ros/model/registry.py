"""Every encoder and every dataset that can be named, with all their numbers.

The tables are plain data: importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.settings import ResizeRule

PATCH_SIZE = 14
NATIVE_SIZE = 518  # side that the official encoders were trained for
SKY_THRESHOLD = 0.3  # of the output `sky`: at least this is sky, as the official code fills it

Layers = tuple[int, int, int, int]


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder and the DPT head that goes with it.

    Attributes:
        embed_dim, depth, num_heads: of the vision transformer.
        layers: indices of the four blocks whose output the head reads, where the network does not say others.
        features, out_channels: widths of the DPT head.
        hub_size: size in the official repositories' names; None where no official weights exist.
        license: SPDX identifier of V2's weights.
        input_size: side the weights were trained for; the position embedding has (input_size / 14)^2 patches.
        max_input_size: the network is given this much at most, whatever is asked for; None: no limit.
        gpu_batch: images at once with which the measurement on a GPU starts; a power of two.
    """

    embed_dim: int
    depth: int
    num_heads: int
    layers: Layers
    features: int
    out_channels: tuple[int, int, int, int]
    hub_size: str | None = None
    license: str | None = None
    input_size: int = NATIVE_SIZE
    max_input_size: int | None = None
    gpu_batch: int = 8

    def clamp_input_size(self, wanted: int) -> int:
        """Return the input size that the network is given where `wanted` was asked for."""
        return wanted if self.max_input_size is None else min(wanted, self.max_input_size)


@dataclass(frozen=True)
class NetworkSpec:
    """An architecture around an encoder: its outputs, and how a picture is resized for it.

    Attributes:
        outputs: names of its outputs, see `depth_network.DepthNetwork`.
        preprocessing: name in `preprocess.PREPROCESSING`.
        resize: which side becomes `input_size`: `lower_bound` the short one, `upper_bound` the long one.
        layers: the blocks its head reads, for encoders where they are not `EncoderSpec.layers`.
    """

    outputs: tuple[str, ...]
    preprocessing: str
    resize: ResizeRule
    layers: Mapping[str, Layers] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetSpec:
    """What a checkpoint was trained for.

    Before the encoder's size or name, `hub_prefix` names the official repository, `hf_prefix` its
    `-hf` counterpart and `file_prefix` the file; a dataset without official weights has no repositories. Without
    `file_prefix` the official file is the repository's `model.safetensors`.

    Attributes:
        kind: of depth.
        max_depth_m: metres at the network's full output; 1 where it has none.
        network: name in `NETWORKS`.
        encoders: those there are; None is any.
        needs_focal: metres follow from the camera's focal length, not from `max_depth`.
        license: SPDX identifier of the weights; None is the encoder's.
        sha256: of official files where it is known, by encoder.
    """

    kind: Kind
    max_depth_m: float
    file_prefix: str | None = None
    hub_prefix: str | None = None
    hf_prefix: str | None = None
    network: str = "v2"
    encoders: tuple[str, ...] | None = None
    needs_focal: bool = False
    license: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)


NETWORKS: dict[str, NetworkSpec] = {
    "v2": NetworkSpec(outputs=("depth",), preprocessing="once", resize="lower_bound"),
    "da3": NetworkSpec(outputs=("depth", "sky"), preprocessing="twice", resize="upper_bound"),
    "da3_views": NetworkSpec(
        outputs=("depth", "confidence", "field_of_view"),
        preprocessing="twice",
        resize="upper_bound",
        layers={"vits": (5, 7, 9, 11), "vitb": (5, 7, 9, 11)},
    ),
}

ENCODERS: dict[str, EncoderSpec] = {
    "vits": EncoderSpec(
        embed_dim=384,
        depth=12,
        num_heads=6,
        layers=(2, 5, 8, 11),
        features=64,
        out_channels=(48, 96, 192, 384),
        hub_size="Small",
        license="Apache-2.0",
    ),
    "vitb": EncoderSpec(
        embed_dim=768,
        depth=12,
        num_heads=12,
        layers=(2, 5, 8, 11),
        features=128,
        out_channels=(96, 192, 384, 768),
        hub_size="Base",
        license="CC-BY-NC-4.0",
        gpu_batch=4,
    ),
    "vitl": EncoderSpec(
        embed_dim=1024,
        depth=24,
        num_heads=16,
        layers=(4, 11, 17, 23),
        features=256,
        out_channels=(256, 512, 1024, 1024),
        hub_size="Large",
        license="CC-BY-NC-4.0",
        gpu_batch=2,
    ),
    # The same architecture at a size that learns rendered rooms on a CPU: the demonstration model. It knows
    # patterns at the size it saw them, so larger pictures would only mislead it.
    "vitt": EncoderSpec(
        embed_dim=192,
        depth=7,
        num_heads=3,
        layers=(1, 3, 5, 6),
        features=32,
        out_channels=(24, 48, 96, 96),
        license="Apache-2.0",
        input_size=224,
        max_input_size=224,
    ),
    # The same architecture at a size for tests and dry runs; there are no weights for it.
    "toy": EncoderSpec(
        embed_dim=32,
        depth=4,
        num_heads=2,
        layers=(0, 1, 2, 3),
        features=16,
        out_channels=(8, 16, 32, 32),
    ),
}

DATASETS: dict[str, DatasetSpec] = {
    "hypersim": DatasetSpec(
        kind="metric",
        max_depth_m=20.0,
        hub_prefix="Depth-Anything-V2-Metric-Hypersim",
        hf_prefix="Depth-Anything-V2-Metric-Indoor",
        file_prefix="depth_anything_v2_metric_hypersim",
    ),
    "vkitti": DatasetSpec(
        kind="metric",
        max_depth_m=80.0,
        hub_prefix="Depth-Anything-V2-Metric-VKITTI",
        hf_prefix="Depth-Anything-V2-Metric-Outdoor",
        file_prefix="depth_anything_v2_metric_vkitti",
    ),
    "relative": DatasetSpec(
        kind="relative",
        max_depth_m=1.0,
        hub_prefix="Depth-Anything-V2",
        hf_prefix="Depth-Anything-V2",
        file_prefix="depth_anything_v2",
    ),
    # Rooms that this project renders (`synthetic.py`); the weights of `vitt` are in the package.
    "synthetic": DatasetSpec(kind="metric", max_depth_m=10.0, file_prefix="depth_anything_v2_metric_synthetic"),
    "da3metric": DatasetSpec(
        kind="metric",
        max_depth_m=1.0,
        hub_prefix="DA3METRIC",
        network="da3",
        encoders=("vitl", "toy"),
        needs_focal=True,
        license="Apache-2.0",
        sha256={"vitl": "bbea5b0b3ee389849cffa7ddae89de064a90abd2b055fc5aa99aac68db324776"},
    ),
    "da3mono": DatasetSpec(
        kind="scale_invariant",
        max_depth_m=1.0,
        hub_prefix="DA3MONO",
        network="da3",
        encoders=("vitl", "toy"),
        license="Apache-2.0",
    ),
    "da3": DatasetSpec(
        kind="scale_invariant",
        max_depth_m=1.0,
        hub_prefix="DA3",
        network="da3_views",
        encoders=("vits", "vitb", "toy"),
        license="Apache-2.0",
    ),
}


def encoder_spec(name: str) -> EncoderSpec:
    """Look an encoder up. Raises SettingsError, naming those there are."""
    if name not in ENCODERS:
        raise SettingsError(f"unknown encoder {name!r}; known: {', '.join(ENCODERS)}")
    return ENCODERS[name]


def dataset_spec(name: str) -> DatasetSpec:
    """Look a dataset up. Raises SettingsError, naming those there are."""
    if name not in DATASETS:
        raise SettingsError(f"unknown dataset {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def network_spec(dataset: str) -> NetworkSpec:
    """The architecture of a dataset's networks. Raises SettingsError: unknown dataset."""
    return NETWORKS[dataset_spec(dataset).network]


def encoders_of(dataset: str) -> tuple[str, ...]:
    """Encoders that a dataset's networks can have. Raises SettingsError: unknown dataset."""
    return dataset_spec(dataset).encoders or tuple(ENCODERS)


def encoder_for(encoder: str, dataset: str) -> EncoderSpec:
    """The encoder as a dataset's network has it.

    Raises:
        SettingsError: an unknown name, or the dataset has no such encoder.
    """
    spec = encoder_spec(encoder)
    if encoder not in (allowed := encoders_of(dataset)):
        raise SettingsError(f"dataset {dataset!r} has no encoder {encoder!r}; it has: {', '.join(allowed)}")
    return replace(spec, layers=network_spec(dataset).layers.get(encoder, spec.layers))


def license_of(encoder: str, dataset: str) -> str | None:
    """SPDX identifier of the official weights; None where there are none."""
    spec = encoder_spec(encoder)
    return None if spec.license is None else dataset_spec(dataset).license or spec.license
