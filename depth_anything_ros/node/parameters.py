"""The depth node's parameters as tables: what each means, and which values it takes.

Defaults are in `settings`. ROS has no "none": an empty string or a zero stands for it where a setting is optional, and
the description says so. How a table is declared and checked is in `parameter_table`, what the values of all
parameters together mean in `configuration`.
"""

from __future__ import annotations

from depth_anything_ros.backends.protocol import BACKENDS, PRECISIONS
from depth_anything_ros.model.registry import DATASETS, ENCODERS
from depth_anything_ros.node.parameter_table import Parameter
from depth_anything_ros.settings import RESIZE_RULES

MODEL_PARAMETERS: dict[str, Parameter] = {
    "encoder": Parameter("Size of the network; vitt is for demonstrations only.", choices=tuple(ENCODERS)),
    "dataset": Parameter(
        "What the weights were trained on. Metres: hypersim (indoors), vkitti (outdoors), synthetic (vitt), da3metric "
        "(vitl, needs a CameraInfo). No unit: relative, da3mono (vitl), da3 (vits, vitb).",
        choices=tuple(DATASETS),
    ),
    "checkpoint": Parameter(
        "File with the weights (.pth, .safetensors, or .onnx of `depth_anything export`). Empty: search "
        "DEPTH_ANYTHING_CHECKPOINTS and the cache, then download. untrained: random weights, for trials.",
        unset="",
    ),
    "input_size": Parameter(
        "Short side of the image given to the network in pixels, for Depth Anything 3 the long side; vitt takes up to "
        "224. 0: the network's own, 518, or 504 for Depth Anything 3.",
        bounds=(14, 2072),
        unset=0,
    ),
    "resize": Parameter(
        "Which side becomes input_size: lower_bound the short one, upper_bound the long one. Empty: the network's own, "
        "the short one, for Depth Anything 3 the long one.",
        choices=RESIZE_RULES,
        unset="",
    ),
    "device": Parameter("auto (CUDA where there is one), cpu, cuda or cuda:N."),
    "precision": Parameter(
        "auto: fp16 on CUDA, or bf16 where fp16 overflows; fp32 on a CPU, or bf16 where OpenVINO finds that the depth "
        "hardly changes.",
        choices=PRECISIONS,
    ),
    "backend": Parameter(
        "What runs the network. auto: torch on CUDA; on a CPU openvino where it is installed and agrees with torch.",
        choices=BACKENDS,
    ),
    "compile": Parameter(
        "Compile the network with torch.compile: takes minutes for each image size and needs a C++ compiler."
    ),
    "download": Parameter("Download missing official weights from the Hugging Face Hub."),
    "accept_license": Parameter("Agree to the CC-BY-NC-4.0 licence of the Base and Large weights when downloading."),
}

ALIGNMENTS = ("none", "range", "ground_plane")
RANGE_TYPES = ("LaserScan", "PointCloud2", "Range", "Image")

CAMERA_PARAMETERS: dict[str, Parameter] = {
    "max_depth": Parameter(
        "Depth in metres at the network's full output. 0: the dataset's own (hypersim 20, vkitti 80, synthetic 10). "
        "Metres of Depth Anything 3 do not depend on it.",
        bounds=(0.0, 1000.0),
        unset=0.0,
    ),
    "warm_up_width": Parameter(
        "Expected width of the images: the network is prepared for this size before the first one comes. 0: it is not.",
        bounds=(0, 16384),
    ),
    "warm_up_height": Parameter("Expected height of the images, see warm_up_width.", bounds=(0, 16384)),
    "image_transport": Parameter(
        "raw subscribes to image, compressed to image/compressed.", choices=("raw", "compressed"), fixed=True
    ),
    "undistort": Parameter(
        "Rectify raw images with K and D of their CameraInfo before the network: depth, CameraInfo and cloud are those "
        "of a pinhole camera. Images without a CameraInfo are dropped."
    ),
    "undistort_focal_px": Parameter(
        "With undistort: focal length of the rectified images, in pixels. 0: that of the largest view without holes.",
        bounds=(1.0, 1e5),
        unset=0.0,
    ),
    "rectified": Parameter("The images are rectified, so P of the CameraInfo describes them. Otherwise K and D do."),
    "camera_info_any_frame": Parameter(
        "Use a CameraInfo of another frame_id where none has the image's. Otherwise there is no cloud then. The same "
        "for depth images on range."
    ),
    "black_level": Parameter(
        "Counts that are black in 16-bit images. 0: 0, or found with white_level.", bounds=(0, 65535), fixed=True
    ),
    "white_level": Parameter(
        "Counts that are white in 16-bit images, such as 4095 for 12 bits. 0: found in the first images and logged.",
        bounds=(0, 65535),
        fixed=True,
    ),
    "process_every_frame": Parameter(
        "Process every frame in order instead of the latest only, for recorded data.", fixed=True
    ),
    "queue_size": Parameter(
        "With process_every_frame: how many frames wait at most; then the oldest is dropped.",
        bounds=(1, 10_000),
        fixed=True,
    ),
    "depth_encoding": Parameter(
        "32FC1: metres. 16UC1: millimetres, 0 for invalid, nothing beyond 65.535 m.", choices=("32FC1", "16UC1")
    ),
    "min_confidence": Parameter(
        "The cloud has no points of less confidence, for models that tell it (da3); confidence begins at 1. 0: all.",
        bounds=(1.0, 1000.0),
        unset=0.0,
    ),
    "min_range_m": Parameter(
        "Nearer depth is -Inf in the image and missing in the cloud. 0: no limit.", bounds=(0.0, 1000.0), unset=0.0
    ),
    "max_range_m": Parameter(
        "Farther depth is +Inf in the image and missing in the cloud. 0: no limit.", bounds=(0.0, 1000.0), unset=0.0
    ),
    "cloud_stride": Parameter("The cloud takes every n-th row and column.", bounds=(1, 64)),
    "cloud_keeps_far": Parameter(
        "Keep points beyond max_range_m and of the sky in the cloud, at that depth, so that a costmap is cleared up to "
        "there. Otherwise they are missing."
    ),
    "cloud_rate_hz": Parameter("At most this many clouds a second. 0: no limit.", bounds=(0.0, 1000.0), unset=0.0),
    "cloud_voxel_m": Parameter(
        "The cloud has one point for each voxel of this side in metres, the centroid, and none that is NaN. 0: one for "
        "each pixel.",
        bounds=(0.001, 100.0),
        unset=0.0,
    ),
    "cloud_min_height_m": Parameter(
        "The cloud has no points lower above the ground; needs camera_height_m or cloud_height_frame. 0: no limit.",
        bounds=(-100.0, 100.0),
        unset=0.0,
    ),
    "cloud_max_height_m": Parameter(
        "The cloud has no points higher above the ground, see cloud_min_height_m. 0: no limit.",
        bounds=(-100.0, 100.0),
        unset=0.0,
    ),
    "cloud_height_frame": Parameter(
        "Frame whose z is the height of points, by TF, such as base_footprint. Empty: by camera_height_m, "
        "camera_pitch_rad and camera_roll_rad.",
        unset="",
    ),
    "color_max_m": Parameter(
        "Depth at the far end of the colour picture. 0: max_depth, the dataset's own, or 20 where it has none.",
        bounds=(0.0, 1000.0),
        unset=0.0,
    ),
    "stale_after_s": Parameter(
        "Seconds without an image or a CameraInfo until /diagnostics warns.", bounds=(0.1, 3600.0)
    ),
    "jpeg_quality": Parameter("Quality of the compressed colour picture.", bounds=(1, 100)),
    "scale": Parameter("Factor of metric depth.", bounds=(0.01, 100.0)),
    "shift_m": Parameter("Added to metric depth after scale, in metres.", bounds=(-100.0, 100.0)),
    "metres_per_unit": Parameter(
        "Factor of depth that is known up to a factor (da3, da3mono), as ~/calibrate finds it. It makes metres, "
        "which are right while the camera's view stays the same. 0: no metres.",
        bounds=(1e-4, 1e4),
        unset=0.0,
    ),
    "alignment": Parameter(
        "Fit scale and shift to every frame: none does not; range uses the range sensor on the topic range; "
        "ground_plane uses the ground below a camera of known height.",
        choices=ALIGNMENTS,
    ),
    "alignment_time_constant_s": Parameter(
        "Time constant of the smoothing of a metric model's scale and shift. 0: none.", bounds=(0.0, 3600.0)
    ),
    "alignment_hold_s": Parameter(
        "Seconds to keep a metric model's last fit without new readings. Then the configured scale and shift apply. "
        "Other models have another scale in every picture, so theirs is never kept.",
        bounds=(0.0, 3600.0),
    ),
    "alignment_window_s": Parameter(
        "With a metric model fit the range sensor's readings of so many seconds together; few readings need more.",
        bounds=(0.0, 3600.0),
    ),
    "range_type": Parameter(
        "Message type of the topic range. Image: depth registered to the camera. Empty: no range sensor.",
        choices=("", *RANGE_TYPES),
        unset="",
        fixed=True,
    ),
    "range_extrinsics": Parameter(
        "[x, y, z, roll, pitch, yaw] of the range sensor in the camera's optical frame, metres and radians. "
        "Not set: taken from TF.",
        numbers=6,
        fixed=True,
    ),
    "range_window_s": Parameter(
        "Use a reading for an image only if their stamps are at most so many seconds apart.", bounds=(0.0, 60.0)
    ),
    "camera_height_m": Parameter(
        "Height of the camera's optical centre above the ground. 0: unknown.", bounds=(0.0, 100.0), unset=0.0
    ),
    "camera_pitch_rad": Parameter("Pitch of the mounted camera; positive looks down.", bounds=(-1.5, 1.5)),
    "camera_roll_rad": Parameter(
        "Roll of the mounted camera; positive is clockwise, seen from behind.", bounds=(-3.2, 3.2)
    ),
    "temporal_filter_s": Parameter(
        "Time constant of the smoothing of depth over time. 0: none.", bounds=(0.0, 60.0), unset=0.0
    ),
    "edge_filter": Parameter("Leave out the points that hang between a foreground and its background."),
    "scan_rows": Parameter("Rows of pixels around the horizon that ~/scan is made of.", bounds=(1, 16384)),
    "scan_min_height_m": Parameter(
        "~/scan leaves out what is lower, with scan_max_height_m: above the noise of the floor.", bounds=(0.0, 100.0)
    ),
    "scan_max_height_m": Parameter(
        "Make ~/scan of everything between scan_min_height_m and this height above the ground; needs camera_height_m. "
        "0: of scan_rows.",
        bounds=(0.0, 100.0),
        unset=0.0,
    ),
    "scan_frame": Parameter(
        "Frame of ~/scan: at the optical centre, x forward, z up, level. Empty: the images' frame without _optical, "
        "for a level camera.",
        unset="",
    ),
}

NODE_PARAMETERS: dict[str, Parameter] = {
    "cameras": Parameter(
        "Names of the cameras. Topics of each are below its name; it may have its own value of any camera parameter, "
        "such as front.max_depth. One empty name: one camera without a name.",
        is_cameras=True,
        fixed=True,
    ),
    "autostart": Parameter("Configure and activate at the start, without a lifecycle manager.", fixed=True),
    "cpu_fallback": Parameter("Switch to the CPU when the device fails five times in a row."),
    "stuck_after_s": Parameter(
        "Report an inference as stuck when it takes more than so many seconds.", bounds=(0.1, 3600.0)
    ),
    "snapshot_folder": Parameter(
        "Folder for snapshots. Empty: depth_anything_snapshots in the ROS home.", unset="", fixed=True
    ),
    "calibration_file": Parameter(
        "YAML file with each camera's scale and shift: read with each model, written by ~/calibrate. Empty: none.",
        unset="",
        fixed=True,
    ),
}

PARAMETERS = {**MODEL_PARAMETERS, **CAMERA_PARAMETERS, **NODE_PARAMETERS}
# How weights are fetched. They do not change which model runs.
HOW_TO_FETCH = ("download", "accept_license")
