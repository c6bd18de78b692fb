"""`DepthEstimator.estimate` on every backend against Depth Anything in transformers, each with its own preprocessing.

With `--weights random`, all carry the same random weights and take turns in one process. Speed is at 640x480.
Accuracy is at 518x518, the one size at which both interpolate the position embedding alike; at any other size
transformers departs from the official implementation, so the difference there says nothing.

With `--dataset da3metric` and its kin, each backend against V2 of the same encoder, in milliseconds and in GFLOP/s.

With `--weights demonstration`, the bundled trained model in rendered rooms at its own input size: every backend
and precision against torch in fp32. Random weights say nothing about what rounding does to a trained network.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from benchmarks import in_turn, median_ms, median_ratio, report, versions
from benchmarks._backends import OURS, is_installed
from benchmarks._counts import cost_of
from benchmarks._pictures import picture
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.dinov2 import reset_parameters
from depth_anything_ros.model.preprocess import MEAN, STD
from depth_anything_ros.model.registry import NATIVE_SIZE, PATCH_SIZE, dataset_spec, encoder_spec
from depth_anything_ros.model.weights import DEMONSTRATION, UNTRAINED
from depth_anything_ros.synthetic.camera import SyntheticCamera

DATASET = "hypersim"
FOCAL_PX = 600.0  # of a camera of 640x480 pixels; only models that need one look at it
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Depth: TypeAlias = NDArray[np.float32]
Estimate: TypeAlias = Callable[[NDArray[np.uint8]], Depth]

# On a CPU fp16 is slow; it is measured for its rounding.
DEMONSTRATION_ONLY = {"cpu": [("torch", "fp16")], "cuda": [("torch", "bf16")]}
REFERENCE = "torch fp32"
FIRST_SEED = 3_100_000  # training, the model card, the tests and the other benchmarks use others
THEIRS = {"cpu": ["fp32", "bf16"], "cuda": ["fp32", "fp16"]}


def main(argv: list[str]) -> None:
    """Print one JSON line for every device, the CPU and the first GPU where there is one, and kind of weights."""
    parser = argparse.ArgumentParser(prog="benchmarks estimator", description=__doc__)
    parser.add_argument(
        "--weights", nargs="+", choices=("random", "demonstration"), default=["random", "demonstration"]
    )
    parser.add_argument("--encoder", default="vits", help="of the random weights")
    parser.add_argument("--dataset", default=DATASET, help="da3metric, da3mono, da3: against V2 of the same encoder")
    parser.add_argument("--repeats", type=int, default=7, help="measured rounds, after one that is not")
    parser.add_argument("--scenes", type=int, default=20, help="rooms for the demonstration model, one picture each")
    args = parser.parse_args(argv)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        if args.dataset != DATASET:
            measure_against_v2(args.encoder, args.dataset, device, args.repeats)
            continue
        if "random" in args.weights:
            measure(args.encoder, device, args.repeats)
        if "demonstration" in args.weights:
            measure_demonstration(device, args.repeats, args.scenes)


def measure(encoder: str, device: str, repeats: int) -> None:
    """Compare all on one device and print what came out; a backend whose library is missing is left out."""
    with tempfile.TemporaryDirectory() as folder:  # the weights are read again for another size
        transformers_network(encoder).save_pretrained(folder)
        measure_weights(folder, encoder, device, repeats)


def measure_weights(folder: str, encoder: str, device: str, repeats: int) -> None:
    """`measure` for weights in a `-hf` folder, which are transformers' own seeded ones."""
    processor = transformers_processor()
    contenders: dict[str, Estimate] = {
        f"{backend} {precision}": estimator(folder, encoder, device, precision, backend)
        for backend, precision in OURS[device]
        if is_installed(backend)
    }
    for precision in THEIRS[device]:
        own = transformers_network(encoder)  # seeded: the same weights
        contenders[f"transformers {precision}"] = transformers_estimate(own, processor, device, precision)
    image, square = picture(480, 640), picture(NATIVE_SIZE, NATIVE_SIZE)
    times_s = in_turn({name: partial(estimate, image) for name, estimate in contenders.items()}, repeats)
    single, half = (times_s[f"transformers {precision}"] for precision in THEIRS[device])
    reference = contenders["transformers fp32"](square)
    results = {
        name: {
            "ms": median_ms(times_s[name]),
            "times_as_fast_as_transformers_fp32": median_ratio(times_s[name], single),
            f"times_as_fast_as_transformers_{THEIRS[device][1]}": median_ratio(times_s[name], half),
            "difference_518x518": difference(estimate(square), reference),
        }
        for name, estimate in contenders.items()
    }
    report(
        "estimator",
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        versions=versions("torch", "transformers", "numpy", *filter(is_installed, ("openvino", "onnxruntime"))),
        weights="random",
        encoder=encoder,
        processor=type(processor).__name__,
        image="640x480",
        repeats=repeats,
        results=results,
    )


def measure_against_v2(encoder: str, dataset: str, device: str, repeats: int) -> None:
    """Compare a dataset's network on every backend with V2 of the same encoder in torch fp32, each at its own size."""
    load = partial(DepthEstimator.load, encoder, checkpoint=UNTRAINED, device=device)
    loaded = {f"v2 {REFERENCE}": load(DATASET, precision="fp32", backend="torch")}
    for backend, precision in OURS[device]:
        if is_installed(backend):
            loaded[f"{backend} {precision}"] = load(dataset, precision=precision, backend=backend)
    image = picture(480, 640)
    sizes = {name: one.network_size(480, 640) for name, one in loaded.items()}
    datasets = {name: DATASET if name.startswith("v2 ") else dataset for name in loaded}
    gflop = {name: cost_of(encoder, *sizes[name], datasets[name]).flop / 1e9 for name in loaded}
    times_s = in_turn({name: partial(one.estimate, image, focal_px=FOCAL_PX) for name, one in loaded.items()}, repeats)
    report(
        "estimator",
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        versions=versions("torch", "numpy", *filter(is_installed, ("openvino", "onnxruntime"))),
        weights="random",
        encoder=encoder,
        dataset=dataset,
        image="640x480",
        repeats=repeats,
        results={
            name: {
                "network_size": "{}x{}".format(*sizes[name]),
                "ms": median_ms(times_s[name]),
                "gflop": round(gflop[name], 1),
                "gflop_per_s": round(1e3 * gflop[name] / median_ms(times_s[name])),
                "weight_mib": loaded[name].weight_bytes >> 20,
            }
            for name in loaded
        },
    )


def measure_demonstration(device: str, repeats: int, scenes: int) -> None:
    """Compare every backend and precision with torch in fp32 on the pictures of rendered rooms."""
    loaded = {
        f"{backend} {precision}": DepthEstimator.load(
            *DEMONSTRATION, device=device, precision=precision, backend=backend
        )
        for backend, precision in (*OURS[device], *DEMONSTRATION_ONLY[device])
        if is_installed(backend)
    }
    pictures = [SyntheticCamera(seed).frame().image_bgr for seed in range(FIRST_SEED, FIRST_SEED + scenes)]
    times_s = in_turn({name: partial(one.estimate, pictures[0]) for name, one in loaded.items()}, repeats)
    references = [loaded[REFERENCE].estimate(image).values for image in pictures]
    report(
        "estimator",
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        versions=versions("torch", "numpy", *filter(is_installed, ("openvino", "onnxruntime"))),
        weights="demonstration",
        encoder=DEMONSTRATION[0],
        input_size=loaded[REFERENCE].input_size,
        image="640x480",
        repeats=repeats,
        scenes=scenes,
        results={
            name: {
                "ms": median_ms(times_s[name]),
                "times_as_fast_as_torch_fp32": median_ratio(times_s[name], times_s[REFERENCE]),
                "difference": differences([one.estimate(image).values for image in pictures], references),
            }
            for name, one in loaded.items()
        },
    )


def differences(found: Sequence[Depth], references: Sequence[Depth]) -> dict[str, float]:
    """Differences as fractions of each picture's range, over all pictures; the largest of the median picture, too."""
    off = [np.abs(own - other) / np.ptp(other) for own, other in zip(found, references, strict=True)]
    largest = [float(each.max()) for each in off]
    values = {
        "max": max(largest),
        "max_of_median_picture": float(np.median(largest)),
        "p99_9": float(np.percentile(np.stack(off), 99.9)),
        "mean": float(np.mean(off)),
    }
    return {name: float(f"{value:.2g}") for name, value in values.items()}


def difference(found: Depth, reference: Depth) -> dict[str, float]:
    """Largest and mean difference, as fractions of the range that the depth covers."""
    off = np.abs(found - reference) / np.ptp(reference)
    return {"max": float(f"{off.max():.2g}"), "mean": float(f"{off.mean():.2g}")}


def estimator(folder: str, encoder: str, device: str, precision: str, backend: str) -> Estimate:
    """Load weights as anyone would load a `-hf` checkpoint, and return `estimate`."""
    loaded = DepthEstimator.load(encoder, DATASET, folder, device=device, precision=precision, backend=backend)
    return lambda image_bgr: loaded.estimate(image_bgr).values


def transformers_estimate(network: Any, processor: Any, device: str, precision: str) -> Estimate:
    """Return a function from a BGR image to depth in metres that does all that `estimate` does."""
    network = network.to(device, DTYPES[precision])

    @torch.inference_mode()
    def estimate(image_bgr: NDArray[np.uint8]) -> Depth:
        inputs = processor(images=image_bgr[..., ::-1], return_tensors="pt").to(network.device, network.dtype)
        outputs = network(**inputs)
        done = processor.post_process_depth_estimation(outputs, target_sizes=[image_bgr.shape[:2]])
        depth: Depth = done[0]["predicted_depth"].float().cpu().numpy()
        return depth

    return estimate


def transformers_processor() -> Any:
    """Return the image processor with the settings of the published checkpoints; with Pillow or torchvision."""
    return transformers.DPTImageProcessor(
        size={"height": NATIVE_SIZE, "width": NATIVE_SIZE},
        keep_aspect_ratio=True,
        ensure_multiple_of=PATCH_SIZE,
        image_mean=list(MEAN),
        image_std=list(STD),
    )


def transformers_network(encoder: str) -> Any:
    """Build transformers' network for an encoder, with seeded random weights."""
    spec = encoder_spec(encoder)
    backbone: dict[str, Any] = {
        "image_size": NATIVE_SIZE,
        "patch_size": PATCH_SIZE,
        "hidden_size": spec.embed_dim,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.num_heads,
        "out_indices": [index + 1 for index in spec.layers],
        "reshape_hidden_states": False,
        "apply_layernorm": True,
    }
    config = transformers.DepthAnythingConfig(
        backbone_config=transformers.Dinov2Config(**backbone),
        reassemble_hidden_size=spec.embed_dim,
        neck_hidden_sizes=list(spec.out_channels),
        fusion_hidden_size=spec.features,
        depth_estimation_type="metric",
        max_depth=int(dataset_spec(DATASET).max_depth_m),
    )
    network: Any = transformers.DepthAnythingForDepthEstimation(config)
    network.eval()
    reset_parameters(network, torch.Generator().manual_seed(0))
    with torch.no_grad():  # transformers' name for LayerScale's gamma; near 0 it would switch the blocks off
        for name, parameter in network.named_parameters():
            if name.endswith("lambda1"):
                parameter.add_(0.2)
    return network
