"""Camera models: what a CameraInfo means, and how depth becomes points. Which CameraInfo counts is in `messages/`.

Points are in the camera's optical frame (REP 103: x right, y down, z along the optical axis), in metres. Depth may be a
NumPy array, or a torch tensor on any device. Importing this package does not import torch.
"""

from depth_anything_ros.camera.camera_info import (
    CameraInfo,
    RegionOfInterest,
    binning,
    image_center,
    image_size,
    resize_factors,
)
from depth_anything_ros.camera.lenses import DISTORTION_MODELS, LENS_ALIASES, read_lens
from depth_anything_ros.camera.model import CameraModel
from depth_anything_ros.camera.rays import MAX_RAY_SLOPE

__all__ = [
    "DISTORTION_MODELS",
    "LENS_ALIASES",
    "MAX_RAY_SLOPE",
    "CameraInfo",
    "CameraModel",
    "RegionOfInterest",
    "binning",
    "image_center",
    "image_size",
    "read_lens",
    "resize_factors",
]
