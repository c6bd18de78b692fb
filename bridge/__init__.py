"""REST bridge: the inference core for clients that know no ROS. Importing this imports nothing heavy."""
