"""`python -m demo`: photographs in, depth and point clouds out, through the real node and real ROS 2.

Three processes: `camera` publishes the photographs, `depth_anything_ros.node` works on them, and
`__main__` starts both, records what comes out and writes it down.
"""

NAMESPACE = "/demo"
