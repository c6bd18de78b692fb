"""Settings of the core. Every default of the project is written here and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from depth_anything_ros.errors import SettingsError

ResizeRule = Literal["lower_bound", "upper_bound"]
RESIZE_RULES: tuple[ResizeRule, ...] = ("lower_bound", "upper_bound")

# Default side of a network's input, in pixels: the long side of Depth Anything 3, the short
# one of all others.
INPUT_SIZES = {"da3metric": 504, "da3mono": 504, "da3": 504}
V2_INPUT_SIZE = 518


def model_key(encoder: str, dataset: str, input_size: int | None = None) -> str:
    """Return `{encoder}_{dataset}_{input_size}`; None is the network's own size."""
    return f"{encoder}_{dataset}_{own_input_size(dataset) if input_size is None else input_size}"


def own_input_size(dataset: str) -> int:
    """Return the `input_size` that a dataset's networks take where nobody asks for another."""
    return INPUT_SIZES.get(dataset, V2_INPUT_SIZE)


@dataclass(frozen=True)
class InputLimits:
    """Limits on the network's input.

    Where the *short* side becomes `input_size`, a tiny but very elongated image becomes enormous (4000 x 1 pixels
    at 518: 2,072,000 x 518). These caps are checked on the numbers alone, before anything is allocated.
    """

    max_aspect_ratio: float = 8.0
    max_tokens: int = 10_000


@dataclass(frozen=True)
class ImageLimits:
    """Caps on an encoded image, checked on its header before it is decoded (`io.image_header.check_image`).

    Attributes:
        max_pixels: width times height.
        max_side: the longer side, in pixels.
        max_aspect_ratio: the longer side over the shorter one.
        max_scans: passes over the picture of a progressive JPEG; encoders write 10 to 12.
        max_pixels_per_byte: of pictures beyond 4 megapixels. A black JPEG, PNG or lossy WebP has 60 to 1030; only
            files that are made to cost a decoder much have more.
        formats: names in `image_header.ALL_FORMATS`. The default is what the bridge takes.
    """

    max_pixels: int = 25_000_000
    max_side: int = 8192
    max_aspect_ratio: float = InputLimits.max_aspect_ratio
    max_scans: int = 20
    max_pixels_per_byte: float = 2000.0
    formats: tuple[str, ...] = ("jpeg", "png", "webp")


@dataclass(frozen=True)
class ModelSettings:
    """Which network, from which file, on which device.

    Attributes:
        encoder: name in `model.registry.ENCODERS`.
        dataset: name in `model.registry.DATASETS`; decides the kind of depth, and what metres follow from.
        checkpoint: path of a `.pth` or `.safetensors` file; None searches (see `model/checkpoint_search.py`);
            `weights.UNTRAINED` builds seeded random weights, for trials without any; a `.onnx` file
            of `depth_anything export` is run by ONNX Runtime.
        input_size: side given to the network, in pixels; None is the network's own: 518, for Depth Anything 3 504.
        resize: which side: `lower_bound` the short one, `upper_bound` the long one; None is the network's own:
            the short one, for Depth Anything 3 the long one.
        device: `auto` (CUDA when there is one), `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32`, `bf16`, `fp16`. Auto is fp16 on CUDA, or bf16 where these weights
            overflow it; on a CPU what is fastest here and true enough (docs/backends.md).
        backend: `auto` (torch on CUDA; on a CPU what is fastest here), `torch`, `openvino`, `onnxruntime`;
            `openvino:GPU`, `openvino:NPU`.
        compile: let torch.compile rewrite the network for each batch and size: minutes, a C++ compiler, backend torch.
        download: fetch a missing official checkpoint from the Hugging Face Hub.
        accept_license: agree to the non-commercial licence of Base and Large beforehand.
    """

    encoder: str = "vits"
    dataset: str = "hypersim"
    checkpoint: str | None = None
    input_size: int | None = None
    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"
    compile: bool = False
    resize: str | None = None
    # How weights are fetched does not change which model it is.
    download: bool = field(default=True, compare=False)
    accept_license: bool = field(default=False, compare=False)

    @property
    def network_input_size(self) -> int:
        """`input_size`, or the network's own."""
        return own_input_size(self.dataset) if self.input_size is None else self.input_size

    @property
    def key(self) -> str:
        """Model key, `{encoder}_{dataset}_{input_size}`."""
        return model_key(self.encoder, self.dataset, self.input_size)


@dataclass(frozen=True)
class CacheSettings:
    """How much `ModelCache` keeps. `max_bytes` counts weights; None means no limit.

    `max_batch` is the largest batch that is tried on a GPU; what is used is measured.
    """

    max_models: int = 4
    max_bytes: int | None = None
    max_batch: int = 8


@dataclass(frozen=True)
class FitSettings:
    """How scale and shift are fitted to samples, and which fits are refused (docs/scale.md).

    Attributes:
        min_samples: a fit to fewer samples is refused.
        tolerance: largest error of a sample that agrees, as a share of its depth.
        min_tolerance_m: lower limit of that error, in metres.
        min_inlier_share: a fit is refused if a smaller share of the samples agrees.
        max_residual: largest root mean square error of the agreeing samples, as a share of their depth.
        min_scale, max_scale: limits of a metric model's scale.
        fit_shift: False fits the scale alone.
        max_shift: largest shift, as a share of the median depth; beyond it, the scale is fitted alone.
        min_spread: smallest ratio of the agreeing samples' 90th to their 10th percentile of depth to fit the shift.
        max_shift_error: largest standard error of the shift, as a share of the median depth, to keep it.
        trials: number of lines or planes that are tried.
        seed: of the trials. The same samples always give the same fit.
    """

    min_samples: int = 20
    tolerance: float = 0.15
    min_tolerance_m: float = 0.02
    min_inlier_share: float = 0.5
    max_residual: float = 0.08
    min_scale: float = 0.1
    max_scale: float = 10.0
    fit_shift: bool = True
    max_shift: float = 0.5
    min_spread: float = 1.5
    max_shift_error: float = 0.05
    trials: int = 128
    seed: int = 0


@dataclass(frozen=True)
class GroundPlaneSettings:
    """How the ground is found in depth.

    Attributes:
        max_tilt_deg: largest angle between the ground's normal and the direction that is down by the camera's pitch
            and roll.
        max_points: number of points of the picture's lower half that are used, at most.
        fit: tolerance across the plane, and limits of the fit. Furniture stands on the ground, so fewer points agree.
    """

    max_tilt_deg: float = 20.0
    max_points: int = 4000
    fit: FitSettings = FitSettings(min_samples=200, tolerance=0.05, min_inlier_share=0.3, max_residual=0.03)


@dataclass(frozen=True)
class AlignmentSettings:
    """How per-frame fits of a metric model are smoothed and held; those of others count for their frame alone.

    Attributes:
        time_constant_s: time constant of the smoothing; 0 does not smooth.
        hold_s: how long the last scale is kept without new evidence.
    """

    time_constant_s: float = 1.0
    hold_s: float = 5.0


# Depth in metres at the far end of the colour picture's range, for models whose depth has no end of its own.
ENDLESS_COLOR_MAX_M = 20.0


@dataclass(frozen=True)
class CameraSettings:
    """What the node does with one camera's images; each camera of a node may have its own.

    Attributes:
        max_depth: metres at the network's full output; None is the dataset's own.
        image_transport: `raw` or `compressed`.
        undistort: rectify raw images before the network, see `messages.rectification`.
        undistort_focal_px: focal length of the rectified images; None is that of the largest view without holes.
        rectified: the images are rectified, so P describes them; otherwise K and D do.
        camera_info_any_frame: use CameraInfo of another frame_id where there is none of the image's.
        black_level, white_level: counts that are black and white in 16-bit images; 0 finds them (`LevelFinder`).
        process_every_frame: queue frames instead of taking the latest only.
        queue_size: how many frames wait at most when they are queued.
        warm_up_width, warm_up_height: expected size of the images, in pixels. Backends that compile for a size do so
            before the first image; 0 leaves it to the first image.
        depth_encoding: `32FC1` (metres) or `16UC1` (millimetres, 0 invalid).
        min_range_m, max_range_m: depth outside is -Inf / +Inf in the image and missing in the cloud;
            None does not clip on that side.
        cloud_stride: the cloud takes every n-th row and column.
        cloud_keeps_far: points beyond `max_range_m` stay in the cloud, at that depth.
        cloud_rate_hz: at most this many clouds a second; None does not limit.
        cloud_voxel_m: the cloud has one point for each voxel of this side, the centroid; None: one for each pixel.
        cloud_min_height_m, cloud_max_height_m: no points lower or higher above the ground; None does not limit.
        cloud_height_frame: frame in TF whose z is the height; None: by `camera_height_m`, pitch and roll.
        color_max_m: depth at the far end of the colour picture's range; None is `max_depth`.
        stale_after_s: input that stays away for longer is reported.
        jpeg_quality: of the compressed colour picture, 1 to 100.
        scale, shift_m: a metric model's depth is published as `scale * depth + shift_m`.
        metres_per_unit: a scale-invariant model's depth is published in metres as `metres_per_unit * depth`; None: it
            has no metres.
        alignment: source of scale and shift for each frame: `none`, `range` or `ground_plane`.
        alignment_time_constant_s, alignment_hold_s: as in `AlignmentSettings`.
        alignment_window_s: with a metric model, readings of a range sensor are used together over this time.
        range_type: type of the topic `range`, a name in `parameters.RANGE_TYPES`; None does not subscribe.
        range_extrinsics: `[x, y, z, roll, pitch, yaw]` of the range sensor in the camera's optical frame, metres and
            radians (`Transform.from_xyz_rpy`); None asks TF.
        range_window_s: largest difference between the stamps of a reading and of its image.
        camera_height_m: of the optical centre above the ground; None is unknown.
        camera_pitch_rad, camera_roll_rad: how the camera is mounted, as in `ground_plane.fit_ground_plane`.
        temporal_filter_s: time constant of the smoothing over time; None does not smooth.
        min_confidence: points of less confidence are left out of the cloud, for models that have one; None keeps all.
        edge_filter: no points between a foreground and its background.
        scan_rows: rows of pixels around the horizon that the scan is made of.
        scan_min_height_m, scan_max_height_m: heights above the ground that the scan is made of; None: of `scan_rows`.
        scan_frame: frame of the scan, level, at the optical centre; None: the images' without `_optical`.
    """

    max_depth: float | None = None
    image_transport: str = "raw"
    undistort: bool = False
    undistort_focal_px: float | None = None
    rectified: bool = False
    camera_info_any_frame: bool = False
    black_level: int = 0
    white_level: int = 0
    process_every_frame: bool = False
    queue_size: int = 100
    warm_up_width: int = 640
    warm_up_height: int = 480
    depth_encoding: str = "32FC1"
    min_range_m: float | None = None
    max_range_m: float | None = None
    cloud_stride: int = 1
    cloud_keeps_far: bool = False
    cloud_rate_hz: float | None = None
    cloud_voxel_m: float | None = None
    cloud_min_height_m: float | None = None
    cloud_max_height_m: float | None = None
    cloud_height_frame: str | None = None
    color_max_m: float | None = None
    stale_after_s: float = 3.0
    jpeg_quality: int = 95
    scale: float = 1.0
    shift_m: float = 0.0
    metres_per_unit: float | None = None
    alignment: str = "none"
    alignment_time_constant_s: float = AlignmentSettings.time_constant_s
    alignment_hold_s: float = AlignmentSettings.hold_s
    alignment_window_s: float = 2.0
    range_type: str | None = None
    range_extrinsics: tuple[float, ...] | None = None
    range_window_s: float = 0.1
    camera_height_m: float | None = None
    camera_pitch_rad: float = 0.0
    camera_roll_rad: float = 0.0
    temporal_filter_s: float | None = None
    min_confidence: float | None = None
    edge_filter: bool = False
    scan_rows: int = 10
    scan_min_height_m: float = 0.1
    scan_max_height_m: float | None = None
    scan_frame: str | None = None


@dataclass(frozen=True)
class NodeSettings:
    """Settings of the node as a whole.

    Attributes:
        cameras: names of the cameras; their topics and their own parameters begin with them. By default there is
            one camera without a name.
        autostart: configure and activate without being told to.
        cpu_fallback: switch to the CPU if the device keeps failing.
        stuck_after_s: an inference that takes longer is reported as stuck.
        snapshot_folder: where snapshots are written; None is `depth_anything_snapshots` in the ROS home.
        calibration_file: YAML with the cameras' scale and shift, read at the start and written by calibrations;
            None keeps none.
    """

    cameras: tuple[str, ...] = ("",)
    autostart: bool = True
    cpu_fallback: bool = False
    stuck_after_s: float = 30.0
    snapshot_folder: str | None = None
    calibration_file: str | None = None


@dataclass(frozen=True)
class BagSettings:
    """What `depth_anything bag` writes beside the images.

    Attributes:
        cloud: write clouds, too.
        cloud_stride: the cloud takes every n-th row and column.
        rectified: the images are rectified, so P describes them; otherwise K and D do.
        undistort, undistort_focal_px: as in `CameraSettings`.
        camera_info_any_frame, black_level, white_level: as in `CameraSettings`.
        depth_encoding: `32FC1` (metres) or `16UC1` (millimetres, 0 invalid).
        storage: `mcap` or `sqlite3`; None is the input's own.
        only_depth: leave the original messages out.
    """

    cloud: bool = False
    cloud_stride: int = 1
    rectified: bool = False
    undistort: bool = CameraSettings.undistort
    undistort_focal_px: float | None = CameraSettings.undistort_focal_px
    camera_info_any_frame: bool = CameraSettings.camera_info_any_frame
    depth_encoding: str = "32FC1"
    black_level: int = CameraSettings.black_level
    white_level: int = CameraSettings.white_level
    storage: str | None = None
    only_depth: bool = False


@dataclass(frozen=True)
class SyntheticCameraSettings:
    """What the synthetic camera shows, and how it is published.

    Attributes:
        seed: of the room, the camera and its path.
        rate_hz: pictures a second: picture i shows the path `i / rate_hz` seconds after the start.
        width, height: of the pictures, in pixels.
        distortion: name in `synthetic.DISTORTIONS`.
        device: where the rays are cast, as in `ModelSettings`. Not `auto`, because CUDA draws other noise: the same
            seed gives the same pictures on every machine.
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

# Topics, parameters and calibrations begin with a camera's name, and ROS gives these words another meaning.
_CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED_CAMERA_NAMES = ("qos_overrides",)


def check_camera_name(name: str) -> str:
    """Return the name of a camera. Raises SettingsError: ROS does not take such a name."""
    if not _CAMERA_NAME.fullmatch(name):
        raise SettingsError(f"a camera cannot be named {name!r}: use letters, digits and underscores, a letter first")
    if name in _RESERVED_CAMERA_NAMES:
        raise SettingsError(f"a camera cannot be named {name!r}: ROS has parameters of that name")
    return name
