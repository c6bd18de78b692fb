"""Depth Anything V2 for robots: an inference core, a ROS 2 node and a REST bridge on top of it.

Importing this package imports neither torch nor rclpy. The public names live in their modules:
`estimator.DepthEstimator`, `camera.CameraModel`, `depth_map.DepthMap`, `model_cache.ModelCache`.
"""

__version__ = "0.1.0"
