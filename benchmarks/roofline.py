"""How far the network is from what the processor can do: operations, bytes, and the share each backend reaches.

Operations and bytes are counted. The roof is measured: a large matrix product, and copying.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import in_turn, median_ms, report, versions
from benchmarks._backends import OURS, is_installed
from benchmarks._counts import Cost, cost_of
from depth_anything_ros.backends import create_backend, parity
from depth_anything_ros.model.checkpoint_search import cache_folder
from depth_anything_ros.model.registry import ENCODERS
from depth_anything_ros.model.weights import UNTRAINED, load_model
from depth_anything_ros.runtime.threads import share_cores

NETWORK_SIZE = (518, 686)  # of an image of 640x480
MATRIX = 2048  # rows and columns of the products
MATMUL_FLOP = 2 * MATRIX**3
COPY_BYTES = 256 << 20
BYTES_PER_VALUE = {"fp32": 4, "bf16": 2}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main(argv: list[str]) -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="benchmarks roofline", description=__doc__)
    parser.add_argument("--encoder", default="vits", help="whose backends are timed")
    parser.add_argument("--repeats", type=int, default=7, help="measured rounds, after one that is not")
    args = parser.parse_args(argv)
    share_cores()
    costs = {encoder: cost_of(encoder, *NETWORK_SIZE) for encoder in ENCODERS}
    roof = {precision: fastest_product(dtype, args.repeats) for precision, dtype in DTYPES.items()}
    times_s = times_of(args.encoder, roof, args.repeats)
    report(
        "roofline",
        device="cpu",
        threads=torch.get_num_threads(),
        versions=versions("torch", "numpy", *filter(is_installed, ("openvino", "onnxruntime"))),
        network_size="{}x{}".format(*NETWORK_SIZE),
        costs={encoder: described(cost) for encoder, cost in costs.items()},
        matmul_gflops={precision: gflops(MATMUL_FLOP, times_s[f"matmul {precision}"]) for precision in roof},
        copy_gb_per_s=round(copy_gb_per_s(args.repeats), 1),
        encoder=args.encoder,
        repeats=args.repeats,
        backends={
            name: against_roof(taken_s, times_s[f"matmul {name.split()[1]}"], costs[args.encoder])
            for name, taken_s in times_s.items()
            if not name.startswith("matmul")
        },
    )


def described(cost: Cost) -> dict[str, float]:
    """GFLOP, weights and traffic in MB, and operations a byte, for float32 and half of it."""
    megabytes = {f"mb_{name}": round(cost.bytes(size) / 1e6, 1) for name, size in BYTES_PER_VALUE.items()}
    intensity = {f"flop_per_byte_{name}": round(cost.flop / cost.bytes(size)) for name, size in BYTES_PER_VALUE.items()}
    return {
        "gflop": round(cost.flop / 1e9, 1),
        "weights_mb_fp32": round(4e-6 * cost.weights, 1),
        **megabytes,
        **intensity,
    }


def fastest_product(dtype: torch.dtype, repeats: int) -> Callable[[], Tensor]:
    """Return torch's matrix product or a 1x1 convolution of that size, whichever is faster."""
    a = torch.randn(MATRIX, MATRIX).to(dtype)
    image = torch.randn(1, MATRIX, 1, MATRIX).to(dtype).contiguous(memory_format=torch.channels_last)
    kernel = a[:, :, None, None]
    ways: dict[str, Callable[[], Tensor]] = {"mm": partial(torch.mm, a, a), "conv": partial(F.conv2d, image, kernel)}
    times_s = in_turn(ways, repeats)
    return ways[min(ways, key=lambda name: median(times_s[name]))]


def copy_gb_per_s(repeats: int) -> float:
    """Return the rate of memory while a large block is copied, reading and writing together."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8)
    taken_s = in_turn({"copy": partial(torch.empty_like(source).copy_, source)}, repeats)["copy"]
    return 2 * COPY_BYTES / median(taken_s) / 1e9


def times_of(encoder: str, roof: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, list[float]]:
    """Time the network alone on every backend, and the products that are its roof, in turn."""
    x, device = parity.probe_image(*NETWORK_SIZE), torch.device("cpu")
    contenders: dict[str, Callable[[], object]] = {f"matmul {name}": product for name, product in roof.items()}
    for backend, precision in OURS["cpu"]:
        if is_installed(backend) and precision in roof:
            network = load_model(encoder, "hypersim", UNTRAINED).network  # a backend owns its network
            running = create_backend(backend, network, device, precision, cache_folder())
            contenders[f"{backend} {precision}"] = partial(running, x)
    with torch.inference_mode():
        return in_turn(contenders, repeats)


def against_roof(taken_s: list[float], product_s: list[float], cost: Cost) -> dict[str, float]:
    """Milliseconds, rate, and the median over the rounds of the share of the product's rate."""
    shares = [cost.flop / own / (MATMUL_FLOP / roof) for own, roof in zip(taken_s, product_s, strict=True)]
    return {"ms": median_ms(taken_s), "gflops": gflops(cost.flop, taken_s), "share_of_matmul": round(median(shares), 3)}


def gflops(flop: float, taken_s: list[float]) -> float:
    """Median rate in GFLOP/s."""
    return round(flop / median(taken_s) / 1e9, 1)
