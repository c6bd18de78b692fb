"""`python -m depth_anything_ros.node`: the program `depth_anything_node`."""

from depth_anything_ros.node.lifecycle import main

if __name__ == "__main__":
    main()
