"""Start the camera and the depth node, record what comes out, write it down, end everything."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from demo import NAMESPACE
from demo.photographs import Photograph, collect
from demo.pictures import cloud_views, sheet
from demo.processes import Child, ChildFailed, child, isolate_ros, tail
from demo.recorder import Recorder, decode
from depth_anything_ros.errors import DepthAnythingError
from depth_anything_ros.formats import depth_to_uint16, encode_ply, encode_png
from depth_anything_ros.model.registry import DATASETS, ENCODERS
from depth_anything_ros.settings import ModelSettings
from depth_anything_ros.weights import UNTRAINED, find_checkpoint

TIME_LIMIT_S = 100.0  # loading the model included
MIN_DWELL_S = 2.0
SETTLE_TIMEOUT_S = 8.0
METRIC = [name for name, spec in DATASETS.items() if spec.kind == "metric"]


def main(argv: list[str] | None = None) -> int:
    """Run the demo. Returns 0, 1 when something did not work, 2 without a usable photograph, 130 after Ctrl-C."""
    args = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        photographs = collect(args.photographs)
        if not photographs:
            print("none of these is a readable image", file=sys.stderr)
            return 2
        return run(args, photographs)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ChildFailed, DepthAnythingError) as error:
        print(error, file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    defaults = ModelSettings()
    parser = argparse.ArgumentParser(prog="python -m demo", description="Photographs through the node, to files.")
    parser.add_argument("photographs", metavar="PHOTO_OR_FOLDER", nargs="*", type=Path, help="none: drawn scenes")
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=12.0, help="time to record, default: %(default)s")
    parser.add_argument("--rate", type=float, default=10.0, help="frames a second, default: %(default)s")
    parser.add_argument("--encoder", choices=list(ENCODERS), default=defaults.encoder)
    parser.add_argument("--dataset", choices=METRIC, default=defaults.dataset)
    parser.add_argument("--checkpoint", help="a file, or 'untrained'; default: the one on this machine")
    parser.add_argument("--input-size", type=int, default=defaults.input_size)
    parser.add_argument("--device", default=defaults.device)
    return parser


def run(args: argparse.Namespace, photographs: list[Photograph]) -> int:
    """Run the three nodes, then write everything down."""
    checkpoint = args.checkpoint or find_checkpoint(args.encoder, args.dataset) or UNTRAINED
    if checkpoint == UNTRAINED:
        print(f"No {args.encoder} {args.dataset} weights in use: the network is untrained, its depth means nothing.")
    folders = [args.out / photograph.name for photograph in photographs]
    for folder, photograph in zip(folders, photographs, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "input.png").write_bytes(encode_png(photograph.image))
    isolate_ros()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # Ctrl-C stays Python's
    recorder = Recorder()
    try:
        record(args, str(checkpoint), folders, recorder)
    finally:
        recorder.destroy_node()
        rclpy.try_shutdown()
    return write_down(args, str(checkpoint), photographs, recorder)


def record(args: argparse.Namespace, checkpoint: str, folders: list[Path], recorder: Recorder) -> None:
    """Run camera and node until every photograph was shown and has a result, or frames fail, or time is up."""
    executor = SingleThreadedExecutor()
    executor.add_node(recorder)
    dwell_s = max(MIN_DWELL_S, args.seconds / len(folders))

    def done() -> bool:
        complete = len(recorder.results) == len(folders)
        all_shown = recorder.running_s() >= dwell_s * len(folders)
        return all_shown and (complete or recorder.counts.get("frames_failed", 0) > 0)

    def spin(*children: Child) -> None:
        executor.spin_once(timeout_sec=0.1)
        for process in children:
            process.check()
        if recorder.error:
            raise ChildFailed(f"the depth node cannot work: {recorder.error}")

    with child("depth node", node_command(args, checkpoint), args.out / "node.log") as node:
        with child("camera", camera_command(folders, args.rate, dwell_s), args.out / "camera.log") as camera:
            wait(lambda: spin(node, camera), done, TIME_LIMIT_S)
        recorder.counts = {}  # what was counted before the camera stopped is out of date
        wait(lambda: spin(node), recorder.settled, SETTLE_TIMEOUT_S)


def wait(spin: Callable[[], None], done: Callable[[], bool], timeout_s: float) -> None:
    """Call `spin` until something is done or the time is up."""
    deadline_s = time.monotonic() + timeout_s
    while not done() and time.monotonic() < deadline_s:
        spin()


def node_command(args: argparse.Namespace, checkpoint: str) -> list[str]:
    """Return the command of the depth node; values are quoted as YAML strings."""
    texts = {"encoder": args.encoder, "dataset": args.dataset, "checkpoint": checkpoint, "device": args.device}
    values = {name: json.dumps(text) for name, text in texts.items()}
    values |= {"input_size": str(args.input_size), "download": "false"}
    parameters = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
    return [sys.executable, "-m", "depth_anything_ros.node", "--ros-args", "-r", f"__ns:={NAMESPACE}", *parameters]


def camera_command(folders: list[Path], rate_hz: float, dwell_s: float) -> list[str]:
    """Return the command of the camera."""
    options = ["--rate", str(rate_hz), "--dwell", str(dwell_s)]
    return [sys.executable, "-m", "demo.camera", *options, *map(str, folders)]


def write_down(args: argparse.Namespace, checkpoint: str, photographs: list[Photograph], recorder: Recorder) -> int:
    """Write the pictures, clouds and summary.json, and print what happened; 1 if a photograph has no result."""
    done = [photograph for photograph in photographs if photograph.name in recorder.results]
    rows = [write_result(args.out / p.name, p, recorder.results[p.name]) for p in done]
    summary = summarize(args, checkpoint, recorder)
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(summary))
    if rows:
        (args.out / "sheet.png").write_bytes(encode_png(sheet(rows)))
        print(f"written to {args.out}; look at {args.out / 'sheet.png'} first")
    if len(done) == len(photographs):
        return 0
    missing = ", ".join(photograph.name for photograph in photographs if photograph not in done)
    print(
        f"no result for {missing}; the end of {args.out / 'node.log'}:\n{tail(args.out / 'node.log')}", file=sys.stderr
    )
    return 1


def write_result(folder: Path, photograph: Photograph, messages: dict[str, Any]) -> list[Any]:
    """Write one photograph's files; returns its row on the sheet."""
    result = decode(messages)
    views = cloud_views(result)
    (folder / "depth.png").write_bytes(encode_png(depth_to_uint16(result.depth)))
    (folder / "color.png").write_bytes(encode_png(result.color))
    (folder / "cloud.ply").write_bytes(encode_ply(result.points, result.point_colors))
    (folder / "cloud.png").write_bytes(encode_png(views))
    return [photograph.image, result.color, views]


def summarize(args: argparse.Namespace, checkpoint: str, recorder: Recorder) -> dict[str, Any]:
    """Return what summary.json says: frames counted by the depth node, latency from stamp to arrival of the depth."""
    latencies_ms, arrivals_s = [1e3 * latency_s for latency_s in recorder.latencies_s], recorder.arrivals_s
    frame_s = (arrivals_s[-1] - arrivals_s[0]) / (len(arrivals_s) - 1) if len(arrivals_s) > 1 else None
    return {
        "model": f"{args.encoder}_{args.dataset}_{args.input_size}",
        "checkpoint": checkpoint,
        "real_weights": checkpoint != UNTRAINED,
        "frames_published": recorder.published,
        **recorder.counts,
        "depth_images": len(arrivals_s),
        "latency_ms_median": round(float(np.median(latencies_ms)), 1) if latencies_ms else None,
        "latency_ms_p95": round(float(np.percentile(latencies_ms, 95)), 1) if latencies_ms else None,
        "depth_images_per_s": round(1 / frame_s, 2) if frame_s else None,
    }


if __name__ == "__main__":
    sys.exit(main())
