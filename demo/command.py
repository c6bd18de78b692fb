"""Start the camera and the depth node, record what they publish, ask a bridge, and write the results.

With `--page` nothing is recorded: camera, node and bridge run until Ctrl-C, and a browser shows them.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from demo import NAMESPACE
from demo.bridge import Answer, ask_bridge
from demo.folder import FOLDERS, SHEET, SUMMARY, prepare
from demo.options import METRIC, build_parser
from demo.page import show_page
from demo.photographs import Photograph, collect
from demo.pictures import cloud_views, depth_pictures, sheet
from demo.processes import Child, ChildFailed, child, isolate_ros, tail
from demo.recorder import Recorder, Result
from depth_anything_ros.errors import DepthAnythingError
from depth_anything_ros.io.formats import depth_to_uint16, encode_ply, encode_png
from depth_anything_ros.metrics import evaluate_depth, mean_metrics
from depth_anything_ros.model.checkpoint_search import bundled_checkpoint, find_checkpoint
from depth_anything_ros.model.registry import ENCODERS, dataset_spec
from depth_anything_ros.model.weights import DEMONSTRATION, DEMONSTRATION_NOTE, UNTRAINED
from depth_anything_ros.settings import ModelSettings

TIME_LIMIT_S = 180.0  # for recording, with loading the model, and measuring how to run it, which takes a minute once
MIN_DWELL_S = 2.0
SETTLE_TIMEOUT_S = 8.0
ROWS = 3  # of rendered rooms on the sheet


def main(argv: list[str] | None = None) -> int:
    """Run the demo. Returns 0, 1 when something did not work, 2 without a usable photograph, 130 after Ctrl-C.

    Raises:
        SystemExit: 2, an option that cannot be.
    """
    args = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        photographs = collect(args.photographs)
        if args.photographs and not photographs:
            print("none of these is a readable image", file=sys.stderr)
            return 2
        model = choose_model(args)
        say_what_runs(model)
        prepare(args.out, photographs)
        isolate_ros()
        if args.page:
            return show_page(node_command(model), camera_command(args, photographs), model, args.port, args.out)
        return run(args, model, photographs)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ChildFailed, DepthAnythingError) as error:
        print(error, file=sys.stderr)
        return 1


def choose_model(args: argparse.Namespace) -> ModelSettings:
    """Return the model asked for; else real weights for photographs, if there are any; else the demonstration model."""
    base = ModelSettings(
        checkpoint=args.checkpoint,
        input_size=args.input_size,
        device=args.device,
        precision=args.precision,
        download=False,
    )
    encoder, dataset = args.encoder, args.dataset
    if encoder is None and dataset is None:
        here = [pair for pair in ((e, d) for e in ENCODERS for d in METRIC) if find_checkpoint(*pair)]
        encoder, dataset = here[0] if here and args.photographs else DEMONSTRATION
    encoder = encoder or (DEMONSTRATION[0] if dataset == DEMONSTRATION[1] else base.encoder)
    dataset = dataset or (DEMONSTRATION[1] if encoder == DEMONSTRATION[0] else base.dataset)
    found = args.checkpoint or find_checkpoint(encoder, dataset) or bundled_checkpoint(encoder, dataset) or UNTRAINED
    return replace(base, encoder=encoder, dataset=dataset, checkpoint=str(found))


def say_what_runs(model: ModelSettings) -> None:
    """Print which weights are no real ones."""
    if model.checkpoint == UNTRAINED:
        print(f"No {model.encoder} {model.dataset} weights in use: the network is untrained, its depth means nothing.")
    elif model.dataset == DEMONSTRATION[1]:
        print(f"In use: the {DEMONSTRATION_NOTE}.")


def run(args: argparse.Namespace, model: ModelSettings, photographs: list[Photograph]) -> int:
    """Run the nodes, then the bridge, then write everything down."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # Ctrl-C stays Python's
    recorder = Recorder(has_truth=not photographs, interval_s=args.seconds / ROWS)
    try:
        record(args, model, photographs, recorder)
    finally:
        recorder.destroy_node()
        rclpy.try_shutdown()
    names = [photograph.name for photograph in photographs] or sorted(recorder.results)[:ROWS]
    missing = [name for name in names if name not in recorder.results] if names else ["the rendered room"]
    if missing:
        print(
            f"no result for {', '.join(missing)}; the end of {args.out / 'node.log'}:\n{tail(args.out / 'node.log')}",
            file=sys.stderr,
        )
        return 1
    results = {name: recorder.results[name] for name in names}
    max_depth_m = dataset_spec(model.dataset).max_depth_m
    answer = ask_bridge(results[names[0]].image, model, max_depth_m, args.out / "bridge.log")
    write_down(args.out, results, answer, summarize(model, recorder) | compare(results[names[0]], answer))
    return 0


def record(args: argparse.Namespace, model: ModelSettings, photographs: list[Photograph], recorder: Recorder) -> None:
    """Run camera and node until every picture has a result, frames fail, or time is up."""
    executor = SingleThreadedExecutor()
    executor.add_node(recorder)
    needed = len(photographs) or 1
    dwell_s = dwell(args, photographs)

    def done() -> bool:
        complete = len(recorder.results) >= needed
        all_shown = recorder.running_s() >= dwell_s * needed
        return all_shown and (complete or recorder.counts.get("frames_failed", 0) > 0)

    def spin(*children: Child) -> None:
        executor.spin_once(timeout_sec=0.1)
        for process in children:
            process.check()
        if recorder.error:
            raise ChildFailed(f"the depth node cannot work: {recorder.error}")

    with child("depth node", node_command(model), args.out / "node.log") as node:
        with child("camera", camera_command(args, photographs), args.out / "camera.log") as camera:
            wait(lambda: spin(node, camera), done, TIME_LIMIT_S)
        recorder.camera_ended()
        wait(lambda: spin(node), recorder.settled, SETTLE_TIMEOUT_S)


def dwell(args: argparse.Namespace, photographs: list[Photograph]) -> float:
    """Seconds for which each picture is shown."""
    return max(MIN_DWELL_S, args.seconds / len(photographs)) if photographs else float(args.seconds)


def camera_command(args: argparse.Namespace, photographs: list[Photograph]) -> list[str]:
    """Return the command of the camera, which shows the photographs, or a rendered room where there are none."""
    if not photographs:
        return room_camera(args.seed, args.rate)
    return photo_camera([args.out / photograph.name for photograph in photographs], args.rate, dwell(args, photographs))


def wait(spin: Callable[[], None], done: Callable[[], bool], timeout_s: float) -> None:
    """Call `spin` until something is done or the time is up."""
    deadline_s = time.monotonic() + timeout_s
    while not done() and time.monotonic() < deadline_s:
        spin()


def node_command(model: ModelSettings) -> list[str]:
    """Return the command of the depth node."""
    names = ("encoder", "dataset", "checkpoint", "device", "precision", "download")
    parameters = {name: getattr(model, name) for name in names} | {"input_size": model.network_input_size}
    return ros_command("depth_anything_ros.node", parameters)


def room_camera(seed: int, rate_hz: float) -> list[str]:
    """Return the command of the camera in a rendered room."""
    return ros_command("depth_anything_ros.node.synthetic_camera", {"seed": seed, "rate_hz": rate_hz})


def ros_command(module: str, parameters: dict[str, Any]) -> list[str]:
    """Return the command of a node in the demo's namespace; values are quoted as YAML, of which JSON is a part."""
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
    return [sys.executable, "-m", module, "--ros-args", "-r", f"__ns:={NAMESPACE}", *given]


def photo_camera(folders: list[Path], rate_hz: float, dwell_s: float) -> list[str]:
    """Return the command of the camera that shows photographs."""
    options = ["--rate", str(rate_hz), "--dwell", str(dwell_s)]
    return [sys.executable, "-m", "demo.camera", *options, *map(str, folders)]


def write_down(out: Path, results: dict[str, Result], answer: Answer, summary: dict[str, Any]) -> None:
    """Write the pictures, clouds and summary.json, and print what happened."""
    rows = [write_result(out / name, result) for name, result in results.items()]
    (out / next(iter(results)) / "bridge_depth.png").write_bytes(encode_png(depth_to_uint16(answer.depth)))
    summary |= {FOLDERS: list(results)}
    (out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    (out / SHEET).write_bytes(encode_png(sheet(rows)))
    print(json.dumps(summary))
    print(f"written to {out}; look at {out / SHEET} first")
    print("make demo ARGS=--page keeps camera, node and bridge running, and says where a browser shows them")


def write_result(folder: Path, result: Result) -> list[Any]:
    """Write one frame's files; returns its row on the sheet."""
    folder.mkdir(exist_ok=True)
    pictures = {"input": result.image, **depth_pictures(result.depth, result.truth), "cloud": cloud_views(result)}
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(encode_png(picture))
    (folder / "depth.png").write_bytes(encode_png(depth_to_uint16(result.depth)))
    (folder / "cloud.ply").write_bytes(encode_ply(result.points, result.point_colors))
    return list(pictures.values())


def summarize(model: ModelSettings, recorder: Recorder) -> dict[str, Any]:
    """Return what summary.json says: frames counted by the depth node, latency from stamp to arrival of the depth."""
    latencies_ms, arrivals_s = [1e3 * latency_s for latency_s in recorder.latencies_s], recorder.arrivals_s
    frame_s = (arrivals_s[-1] - arrivals_s[0]) / (len(arrivals_s) - 1) if len(arrivals_s) > 1 else None
    summary = {
        "model": model.key,
        "checkpoint": model.checkpoint,
        "real_weights": model.checkpoint != UNTRAINED and model.dataset != DEMONSTRATION[1],
        "frames_published": recorder.published,
        **recorder.counts,
        "depth_images": len(arrivals_s),
        "latency_ms_median": round(float(np.median(latencies_ms)), 1) if latencies_ms else None,
        "latency_ms_p95": round(float(np.percentile(latencies_ms, 95)), 1) if latencies_ms else None,
        "depth_images_per_s": round(1 / frame_s, 2) if frame_s else None,
    }
    if recorder.scores:
        scores = asdict(mean_metrics(recorder.scores))
        summary["frames_scored"] = len(recorder.scores)
        summary |= {name: round(scores[name], 4) for name in ("abs_rel", "rmse", "delta1", "delta2", "delta3")}
    return summary


def compare(result: Result, answer: Answer) -> dict[str, Any]:
    """Return what summary.json says of the bridge: how far it is from the node, and from the truth if known."""
    said: dict[str, Any] = {
        "latency_ms": round(answer.latency_ms, 1),
        "largest_difference_from_node_m": round(float(np.abs(answer.depth - result.depth).max()), 6),
    }
    if result.truth is not None:
        said["abs_rel"] = round(evaluate_depth(answer.depth, result.truth).abs_rel, 4)
    return {"bridge": said}
