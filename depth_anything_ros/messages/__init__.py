"""What is in ROS messages, as arrays and numbers. Works on any object with a message's fields; imports no rclpy."""
