"""ONNX files of the network: how they are written, and how they are read without trusting them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from depth_anything_ros.backends import parity
from depth_anything_ros.backends.onnx_backend import (
    INPUT,
    OnnxFileBackend,
    export_network,
    import_library,
    on_host,
    sampled,
)
from depth_anything_ros.backends.onnx_graph import check_graph
from depth_anything_ros.backends.protocol import Backend
from depth_anything_ros.errors import BackendError, CheckpointInvalid, CheckpointMismatch, InputError, SettingsError
from depth_anything_ros.files.bounded_files import read_bounded
from depth_anything_ros.model.checkpoint_search import cache_folder, given_checkpoint
from depth_anything_ros.model.depth_network import DepthNetwork, Outputs
from depth_anything_ros.model.preprocess import MEAN, STD
from depth_anything_ros.model.registry import dataset_spec, encoder_for, network_spec
from depth_anything_ros.model.weights import DEMONSTRATION, DEMONSTRATION_NOTE, varies

logger = logging.getLogger(__name__)

PREFIX = "depth_anything_ros."
# Every so many rows and columns of torch's result are kept in the file, so that it can be checked where it runs.
SAMPLE_STEP = 14
# What the output `depth` is, by the network's name in the registry.
OUTPUT_TEXTS = {
    "v2": "unit scale: times max_depth for metric depth in metres",
    "da3": "depth, larger is farther; metric: metres for a focal length of 300 pixels of this input; sky from 0.3 on",
    "da3_views": "depth up to a factor, larger is farther; confidence from 1 on; field of view in radians",
}
PRECISIONS = ("fp32", "int8")
# By the precision that it runs in.
LIMITS = {
    "fp32": parity.FP32_LIMIT,
    "fp16": parity.HALF_LIMIT,
    "bf16": parity.HALF_LIMIT,
    "int8": parity.INT8_LIMIT,
}
MAX_ONNX_BYTES = (2 << 30) - 1  # protobuf's own limit


@dataclass(frozen=True)
class OnnxFile:
    """A file that was checked.

    Attributes:
        content: the whole file.
        sha256: of the file.
        size: (h, w) of the network's input.
        precision: `fp32` or `int8`.
        expected: torch's result, or in int8 the file's own, for `parity.probe_image(*size)`; of maps every
            `SAMPLE_STEP`-th row and column, float32 (1, h / 14, w / 14).
    """

    content: bytes
    sha256: str
    size: tuple[int, int]
    precision: str
    expected: Outputs


def contract(encoder: str, dataset: str) -> dict[str, str]:
    """Return the metadata that a file of this encoder and dataset must hold."""
    return {
        "encoder": encoder,
        "dataset": dataset,
        "input": f"RGB, (value / 255 - mean) / std, mean {MEAN}, std {STD}",
        "output": OUTPUT_TEXTS[dataset_spec(dataset).network],
    }


def export_file(
    network: DepthNetwork,
    encoder: str,
    dataset: str,
    size: tuple[int, int],
    checkpoint_sha256: str,
    *,
    dynamic_batch: bool = False,
) -> bytes:
    """Return the content of a file of this network for one size. Raises BackendError: it cannot be exported."""
    expected = sampled(parity.reference(network, parity.probe_image(*size)), SAMPLE_STEP)
    samples = {sample_name(name): _as_json(values) for name, values in expected.items()}
    says = contract(encoder, dataset) | samples | {"checkpoint_sha256": checkpoint_sha256}
    metadata = {PREFIX + name: text for name, text in says.items()}
    return export_network(network, size, metadata, dynamic_batch=dynamic_batch)


def read_file(path: Path, encoder: str, dataset: str) -> OnnxFile:
    """Read a file of `export_file`, once, and check it before anything runs it.

    Raises:
        CheckpointNotFound: there is none.
        CheckpointInvalid: it is damaged, is not of this project, or refers to other files.
        CheckpointMismatch: it is another encoder's or dataset's.
        BackendError: the library `onnx` is missing.
    """
    path = given_checkpoint(path)
    try:
        content = read_bounded(path, MAX_ONNX_BYTES)
    except InputError as error:
        raise CheckpointInvalid(str(error)) from error
    return check_content(content, str(path), encoder, dataset)


def check_content(content: bytes, where: str, encoder: str, dataset: str) -> OnnxFile:
    """`read_file` for content in memory; `where` names it in errors."""
    onnx = import_library("onnx")
    damaged = f"{where} is not an ONNX file, or is truncated or damaged"
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's kinds
        raise CheckpointInvalid(damaged) from error
    says = {entry.key.removeprefix(PREFIX): entry.value for entry in model.metadata_props}
    for name, wanted in contract(encoder, dataset).items():
        if name not in says:
            raise CheckpointInvalid(f"{where} was not made by `depth_anything export`: its metadata lacks {name!r}")
        if says[name] != wanted:
            raise CheckpointMismatch(f"{where} says {name} {says[name]!r:.80}, but {wanted!r} was asked for")
    outputs = network_spec(dataset).outputs
    size = check_graph(model, len(content), INPUT, outputs, encoder_for(encoder, dataset), where)
    try:
        onnx.checker.check_model(content)
    except Exception as error:  # the checker's kinds
        raise CheckpointInvalid(damaged) from error
    expected = {name: _sample(says, name, size, where) for name in outputs}
    if not varies(expected["depth"]):
        raise CheckpointInvalid(f"{where} gives no depth: its sample is the same everywhere, or not finite")
    precision = says.get("precision", "fp32")
    if precision not in PRECISIONS:
        raise CheckpointMismatch(f"{where} says precision {precision!r:.80}; known: {', '.join(PRECISIONS)}")
    return OnnxFile(content, hashlib.sha256(content).hexdigest(), size, precision, expected)


def sample_name(output: str) -> str:
    """Under which name a file keeps what torch says of an output."""
    return "sample" if output == "depth" else f"sample_{output}"


def _as_json(values: Tensor) -> str:
    return json.dumps([round(float(value), 6) for value in values.flatten()])


def _sample(says: dict[str, str], output: str, size: tuple[int, int], where: str) -> Tensor:
    shape = (1, 2) if output == "field_of_view" else (1, size[0] // SAMPLE_STEP, size[1] // SAMPLE_STEP)
    try:
        return torch.from_numpy(np.array(json.loads(says[sample_name(output)]), np.float32).reshape(shape))
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointInvalid(f"{where} lacks the sample that it is checked with") from error


def in_int8(content: bytes, pictures: Sequence[Tensor]) -> bytes:
    """Return a file of `export_file`, for one image, in int8.

    Its sample is what it says itself here: the test picture is noise, of which 8 bits make something else than torch.

    Raises:
        BackendError: NNCF or OpenVINO is missing, or cannot do it.
    """
    from depth_anything_ros.backends.int8 import quantize
    from depth_anything_ros.backends.openvino_file import OpenVinoFileBackend

    h, w = pictures[0].shape[2:]
    model = import_library("onnx").load_model_from_string(quantize(content, pictures))
    found = OpenVinoFileBackend(model.SerializeToString(), (h, w), "int8")(parity.probe_image(h, w))
    samples = {PREFIX + sample_name(name): _as_json(values) for name, values in sampled(found, SAMPLE_STEP).items()}
    for entry in model.metadata_props:
        entry.value = samples.get(entry.key, entry.value)
    model.metadata_props.add(key=f"{PREFIX}precision", value="int8")
    return model.SerializeToString()  # type: ignore[no-any-return]


def load_file(
    path: Path, encoder: str, dataset: str, device: torch.device, precision: str, backend: str
) -> tuple[Backend, str, str]:
    """Return a backend for an exported file, its path and its SHA-256.

    `auto` is OpenVINO for int8 on a CPU, where it is installed, and otherwise ONNX Runtime.
    """
    file = read_file(path, encoder, dataset)
    running = backend_for(file, device, precision, backend, str(path))
    found = sampled(on_host(running(parity.probe_image(*file.size).to(device))), SAMPLE_STEP)
    parity.require_within(found, file.expected, LIMITS[running.precision], "the ONNX file on this machine")
    if dataset == DEMONSTRATION[1]:
        logger.warning(DEMONSTRATION_NOTE)
    logger.info("backend %s: %s in %s, SHA-256 %s", running.name, path, running.precision, file.sha256)
    return running, str(path), file.sha256


def backend_for(file: OnnxFile, device: torch.device, precision: str, backend: str, where: str) -> Backend:
    """Return what runs a file: ONNX Runtime, and for int8 OpenVINO. On a CPU OpenVINO runs others, too, by name.

    Raises:
        BackendError, SettingsError: it does not run so, or not here.
    """
    kind, _, target = backend.partition(":")
    if kind == "auto":
        kind = "openvino" if file.precision == "int8" else "onnxruntime"
    runs = ("openvino",) if file.precision == "int8" else ("onnxruntime", "openvino")
    if kind not in runs or (kind == "openvino" and device.type != "cpu"):
        on = "on the CPU " if runs == ("openvino",) else ""
        raise BackendError(f"{where} is run {on}by backend {' or '.join(runs)}, not by {backend} on {device}")
    if file.precision == "int8" and precision != "auto":
        raise SettingsError(f"{where} is in int8, whatever runs it: leave precision at auto, not {precision}")
    if kind == "onnxruntime":
        return OnnxFileBackend(file.content, file.size, device, precision, cache_folder())
    from depth_anything_ros.backends.openvino_file import OpenVinoFileBackend

    how = "int8" if file.precision == "int8" else precision
    return OpenVinoFileBackend(file.content, file.size, how, target or "CPU")
