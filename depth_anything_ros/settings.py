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
            `weights.UNTRAINED` builds seeded random weights, for trials without any; a `.onnx` file
            of `depth_anything export` is run by ONNX Runtime.
        input_size: short side given to the network, in pixels.
        device: `auto` (CUDA when there is one), `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32`, `bf16`, `fp16`. Auto is fp16 on CUDA, or bf16 where these weights
            overflow it; on a CPU fp32, or bf16 where OpenVINO runs the network, the processor has it and it departs by
            1 % of the range at most.
        backend: `auto` (torch on CUDA; on a CPU OpenVINO where it is installed and agrees with torch,
            else torch), `torch`, `openvino`, `onnxruntime`.
        compile: let torch.compile rewrite the network for each batch and size: minutes, a C++ compiler, backend torch.
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
    compile: bool = False
    # How weights are fetched makes no other model of it.
    download: bool = field(default=True, compare=False)
    accept_license: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """Model key, `{encoder}_{dataset}_{input_size}`."""
        return f"{self.encoder}_{self.dataset}_{self.input_size}"


@dataclass(frozen=True)
class CacheSettings:
    """How much `ModelCache` keeps. `max_bytes` counts weights; None means no limit.

    `max_batch` is the largest batch that is tried on a GPU; what is used is measured.
    """

    max_models: int = 4
    max_bytes: int | None = None
    max_batch: int = 8


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


@dataclass(frozen=True)
class SyntheticCameraSettings:
    """What the synthetic camera shows, and how it is published.

    Attributes:
        seed: draws the room, the camera and its way.
        rate_hz: pictures a second, on the camera's way too: picture i is taken `i / rate_hz` seconds after the start.
        width, height: of the pictures, in pixels.
        distortion: name in `synthetic.DISTORTIONS`.
        device: where the rays are cast, as in `ModelSettings`. Not `auto`: CUDA draws other noise, and the same
            seed is to give the same pictures on every machine.
        encoding: of the published pictures, name in `conversions.FROM_BGR`.
        frame_id: of everything published.
        reliability: `best_effort`, as cameras have it, or `reliable`.
    """

    seed: int = 0
    rate_hz: float = 10.0
    width: int = 640
    height: int = 480
    distortion: str = "none"
    device: str = "cpu"
    encoding: str = "bgr8"
    frame_id: str = "synthetic_camera_optical_frame"
    reliability: str = "best_effort"


# Lowest and highest value of `SyntheticCameraSettings` where not everything makes sense.
SYNTHETIC_LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "rate_hz": (0.01, 1000.0),
    "width": (16, 4096),
    "height": (16, 4096),
}
