"""Camera and listener, each a process of its own: `python -m benchmarks._ros_peers camera|listener [OPTIONS]`."""

from __future__ import annotations

import argparse
import contextlib
import json
import struct
import time
from pathlib import Path
from typing import TextIO

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from benchmarks._pictures import picture
from depth_anything_ros.messages.stamps import NANOSECONDS_PER_SECOND
from depth_anything_ros.node.conversions import bgr_to_image

TOPICS = {"depth": ("depth_anything/depth/image", Image), "cloud": ("depth_anything/points", PointCloud2)}
LISTENER_QUEUE = 2
# A serialised message: four bytes that say how, then its header's stamp. Little-endian on every machine this runs on.
STAMP = struct.Struct("<iI")
STAMP_OFFSET = 4


def main() -> None:
    """Run as one of them until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("camera", "listener"))
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--rate-hz", type=float, default=10.0)
    parser.add_argument("--topics", nargs="*", choices=TOPICS, default=list(TOPICS))
    parser.add_argument("--file", type=Path, help="where the listener notes what arrives, a JSON object a line")
    args = parser.parse_args()
    rclpy.init()
    node = Node(f"benchmark_{args.role}")
    with contextlib.ExitStack() as stack:
        if args.role == "camera":
            publish_frames(node, args.width, args.height, args.rate_hz)
        else:
            listen(node, args.topics, stack.enter_context(args.file.open("w", buffering=1)))
        try:
            rclpy.spin(node)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        except RuntimeError:  # told to end in the middle of a publish
            if rclpy.ok():
                raise


def publish_frames(node: Node, width: int, height: int, rate_hz: float) -> None:
    """Publish one picture again and again, stamped just before."""
    images = node.create_publisher(Image, "image", qos_profile_sensor_data)
    infos = node.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
    info = CameraInfo(width=width, height=height, k=[500.0, 0.0, width / 2, 0.0, 500.0, height / 2, 0.0, 0.0, 1.0])
    info.header.frame_id = "camera_optical_frame"
    image = bgr_to_image(picture(height, width), info.header)

    def tick() -> None:
        info.header.stamp = node.get_clock().now().to_msg()
        image.header = info.header
        infos.publish(info)
        images.publish(image)

    node.create_timer(1.0 / rate_hz, tick)


def listen(node: Node, topics: list[str], file: TextIO) -> None:
    """Note when each message arrived. Messages stay bytes: unpacking is not measured."""

    def note(name: str, message: bytes) -> None:
        now_ns = time.time_ns()
        seconds, nanoseconds = STAMP.unpack_from(message, STAMP_OFFSET)
        latency_s = (now_ns - seconds * NANOSECONDS_PER_SECOND - nanoseconds) / NANOSECONDS_PER_SECOND
        file.write(json.dumps({"topic": name, "at_s": now_ns / 1e9, "latency_s": latency_s}) + "\n")

    def subscribe(name: str) -> None:
        topic, kind = TOPICS[name]
        node.create_subscription(kind, topic, lambda message: note(name, message), LISTENER_QUEUE, raw=True)

    for name in topics:
        subscribe(name)


if __name__ == "__main__":
    main()
