"""The robot's own cameras: what depth nodes publish, for clients that know no ROS. Only `ros_side` imports rclpy."""
