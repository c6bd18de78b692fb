"""The ROS 2 node. Everything that imports rclpy is here."""
