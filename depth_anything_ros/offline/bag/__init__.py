"""Recorded bags: reading them without ROS, and depth beside their original messages."""
