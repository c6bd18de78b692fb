"""Settings of the core. Every default of the project is written here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class InputLimits:
    """Caps on what the network is asked to look at.

    The official resize makes the *short* side `input_size`, so a tiny but very elongated image
    becomes enormous (4000 x 1 pixels at 518: 2,072,000 x 518). These caps are checked on the
    numbers alone, before anything is allocated.
    """

    max_aspect_ratio: float = 8.0
    max_tokens: int = 10_000


@dataclass(frozen=True)
class ModelSettings:
    """Which network, from which file, on which device.

    Attributes:
        encoder: name in `model.registry.ENCODERS`.
        dataset: name in `model.registry.DATASETS`; decides metric or relative, and max_depth.
        checkpoint: path of a `.pth` or `.safetensors` file; None searches (see `weights.py`);
            `weights.UNTRAINED` builds seeded random weights, for trials without any.
        input_size: short side given to the network, in pixels.
        device: `auto` (CUDA when there is one), `cpu`, `cuda` or `cuda:N`.
        precision: `auto` (fp16 on CUDA, fp32 on a CPU), `fp32`, `bf16`, `fp16`.
        backend: `auto` or `torch`.
        download: fetch a missing official checkpoint from the Hugging Face Hub.
        accept_license: agree to the non-commercial licence of Base and Large beforehand.
    """

    encoder: str = "vits"
    dataset: str = "hypersim"
    checkpoint: str | None = None
    input_size: int = 518
    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"
    # How weights are fetched makes no other model of it.
    download: bool = field(default=True, compare=False)
    accept_license: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """Model key, `{encoder}_{dataset}_{input_size}`."""
        return f"{self.encoder}_{self.dataset}_{self.input_size}"


@dataclass(frozen=True)
class CacheSettings:
    """How much `ModelCache` keeps. `max_bytes` counts weights; None means no limit."""

    max_models: int = 4
    max_bytes: int | None = None


@dataclass(frozen=True)
class NodeSettings:
    """What the node does with its model.

    Attributes:
        max_depth: metres at the network's full output; None is the dataset's own.
        image_transport: `raw` or `compressed`.
        rectified: the images are rectified, so P describes them; otherwise K and D do.
        process_every_frame: queue frames instead of taking the latest only.
        queue_size: how many frames wait at most when they are queued.
        depth_encoding: `32FC1` (metres) or `16UC1` (millimetres, 0 invalid).
        min_range_m, max_range_m: depth outside is -Inf / +Inf in the image and missing in the cloud;
            None does not clip on that side.
        cloud_stride: the cloud takes every n-th row and column.
        cloud_rate_hz: at most this many clouds a second; None does not limit.
        color_max_m: depth at the far end of the colour picture's range; None is `max_depth`.
        autostart: configure and activate without being told to.
    """

    max_depth: float | None = None
    image_transport: str = "raw"
    rectified: bool = False
    process_every_frame: bool = False
    queue_size: int = 100
    depth_encoding: str = "32FC1"
    min_range_m: float | None = None
    max_range_m: float | None = None
    cloud_stride: int = 1
    cloud_rate_hz: float | None = None
    color_max_m: float | None = None
    autostart: bool = True
