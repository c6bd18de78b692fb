"""The network on a GPU: launches recorded or not, batches, and the share of what its matrix units reach.

In fp16, on seeded random weights, images of 640x480 (518x686 for the network). Prints nothing without a GPU.
"""

from __future__ import annotations

import argparse
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from benchmarks import in_turn, median_ms, median_ratio, report, versions
from benchmarks._counts import cost_of
from depth_anything_ros.backends import parity
from depth_anything_ros.backends.torch_backend import TorchBackend
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.weights import UNTRAINED, load_model
from depth_anything_ros.settings import ModelSettings

ENCODERS = ("vits", "vitb", "vitl")
NETWORK_SIZE = (518, 686)
BATCHES = (1, 2, 4, 8)
MATRIX = 8192  # rows and columns of the product that measures what the device can do


def main(argv: list[str]) -> None:
    """Print one JSON line for every encoder."""
    parser = argparse.ArgumentParser(prog="benchmarks gpu", description=__doc__)
    parser.add_argument("--encoder", choices=ENCODERS, nargs="+", default=list(ENCODERS))
    parser.add_argument("--repeats", type=int, default=20, help="measured rounds, after one that is not")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        return
    device = torch.device("cuda:0")
    peak = matmul_tflops(device, args.repeats)
    for encoder in args.encoder:
        measure(encoder, device, peak, args.repeats)


def measure(encoder: str, device: torch.device, peak_tflops: float, repeats: int) -> None:
    """Compare graph and eager for every batch, then time `estimate` as a whole."""
    backends = {"graph": backend(encoder, device, graphs=True), "eager": backend(encoder, device, graphs=False)}
    results, flop = {}, cost_of(encoder, *NETWORK_SIZE).flop
    for batch in BATCHES:
        x = parity.probe_image(*NETWORK_SIZE).to(device).repeat(batch, 1, 1, 1)
        for run in backends.values():
            for _ in range(3):  # a graph is captured at the second
                synchronised(run, x)
        times_s = in_turn({name: partial(synchronised, run, x) for name, run in backends.items()}, repeats)
        images_per_s = batch / median(times_s["graph"])
        results[batch] = {
            "graph_ms": median_ms(times_s["graph"]),
            "eager_ms": median_ms(times_s["eager"]),
            "graph_times_as_fast": median_ratio(times_s["graph"], times_s["eager"]),
            "images_per_s": round(images_per_s, 1),
            "share_of_matmul_rate": round(images_per_s * flop / 1e12 / peak_tflops, 3),
        }
    report(
        "gpu",
        device=torch.cuda.get_device_name(device),
        versions={**versions("torch", "numpy"), "cuda": str(torch.version.cuda)},
        encoder=encoder,
        precision="fp16",
        matmul_tflops=round(peak_tflops, 1),
        repeats=repeats,
        network=results,
        estimate_ms=estimate_ms(encoder, device, repeats),
    )


def backend(encoder: str, device: torch.device, *, graphs: bool) -> TorchBackend:
    """Build a network of its own for each: a backend owns its network."""
    return TorchBackend(load_model(encoder, "hypersim", UNTRAINED).network, device, "fp16", graphs=graphs)


def synchronised(run: TorchBackend, x: Tensor) -> None:
    """Run and wait until it is done."""
    run(x)
    torch.cuda.synchronize(x.device)


def estimate_ms(encoder: str, device: torch.device, repeats: int) -> dict[int, float]:
    """Median milliseconds of `estimate_batch` for every batch: uint8 in host memory to metres in host memory."""
    settings = ModelSettings(encoder, checkpoint=UNTRAINED, device=str(device), precision="fp16", backend="torch")
    estimator = DepthEstimator.from_settings(settings)
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    for batch in BATCHES:
        estimator.warm_up(480, 640, batch)
    times_s = in_turn({str(n): partial(estimator.estimate_batch, [image] * n) for n in BATCHES}, repeats)
    return {int(name): median_ms(taken) for name, taken in times_s.items()}


def matmul_tflops(device: torch.device, repeats: int) -> float:
    """Measure what a large fp16 matrix product reaches: the roof under which the network works."""
    a = torch.randn(MATRIX, MATRIX, device=device, dtype=torch.float16)

    def multiply() -> None:
        torch.mm(a, a)
        torch.cuda.synchronize(device)

    seconds = in_turn({"matmul": multiply}, repeats)["matmul"]
    return 2 * MATRIX**3 / median(seconds) / 1e12
