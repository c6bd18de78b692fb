"""ONNX files of the network: what they say about themselves, and how they are read without trusting them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depth_anything_ros.backends import parity
from depth_anything_ros.backends.onnx_backend import INPUT, export_network, import_library, sampled
from depth_anything_ros.backends.protocol import Backend
from depth_anything_ros.errors import BackendError, CheckpointInvalid, CheckpointMismatch, CheckpointNotFound
from depth_anything_ros.model.checkpoint_search import cache_folder
from depth_anything_ros.model.depth_network import DepthNetwork, Outputs
from depth_anything_ros.model.preprocess import MEAN, STD
from depth_anything_ros.model.registry import dataset_spec, network_spec

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


@dataclass(frozen=True)
class OnnxFile:
    """A file that was checked.

    Attributes:
        content: the whole file.
        sha256: of the file.
        size: (h, w) of the network's input.
        expected: torch's result for `parity.probe_image(*size)`; of maps every `SAMPLE_STEP`-th row and column,
            float32 (1, h / 14, w / 14).
    """

    content: bytes
    sha256: str
    size: tuple[int, int]
    expected: Outputs


def contract(encoder: str, dataset: str) -> dict[str, str]:
    """What a file has to say to be taken for this encoder and dataset; the rest is for people."""
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
    """Read a file that `export_file` made, once, and check it before anything runs it.

    Raises:
        CheckpointNotFound: there is none.
        CheckpointInvalid: it is damaged, is not of this project, or refers to other files.
        CheckpointMismatch: it is another encoder's or dataset's.
        BackendError: the library `onnx` is missing.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointNotFound(f"checkpoint {str(path)!r} does not exist") from error
    except OSError as error:
        raise CheckpointInvalid(f"{path} cannot be read: {error.strerror}") from error
    return check_content(content, str(path), encoder, dataset)


def check_content(content: bytes, where: str, encoder: str, dataset: str) -> OnnxFile:
    """`read_file` for what was read; `where` names it in errors."""
    onnx = import_library("onnx")
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(content)
    except Exception as error:  # protobuf's kinds and the checker's
        raise CheckpointInvalid(f"{where} is not an ONNX file, or is truncated or damaged") from error
    if any(tensor.external_data or tensor.data_location for tensor in _tensors(model.graph)):
        raise CheckpointInvalid(f"{where} refers to other files: one whose SHA-256 does not cover them is not loaded")
    says = {entry.key.removeprefix(PREFIX): entry.value for entry in model.metadata_props}
    for name, wanted in contract(encoder, dataset).items():
        if name not in says:
            raise CheckpointInvalid(f"{where} was not made by `depth_anything export`: it does not say its {name}")
        if says[name] != wanted:
            raise CheckpointMismatch(f"{where} says {name} {says[name]!r}, but {wanted!r} was asked for")
    size = _input_size(model)
    names = network_spec(dataset).outputs
    expected = {name: _sample(says, name, size, where) for name in names}
    return OnnxFile(content, hashlib.sha256(content).hexdigest(), size, expected)


def _input_size(model: Any) -> tuple[int, int]:
    [image] = [value for value in model.graph.input if value.name == INPUT]
    height, width = (dimension.dim_value for dimension in image.type.tensor_type.shape.dim[2:])
    return height, width


def sample_name(output: str) -> str:
    """Under which name a file keeps what torch says of an output."""
    return "sample" if output == "depth" else f"sample_{output}"


def _as_json(values: Tensor) -> str:
    return json.dumps([round(float(value), 6) for value in values.flatten()])


def _sample(says: dict[str, str], output: str, size: tuple[int, int], where: str) -> Tensor:
    shape = (1, 2) if output == "field_of_view" else (1, size[0] // SAMPLE_STEP, size[1] // SAMPLE_STEP)
    try:
        return torch.from_numpy(np.array(json.loads(says[sample_name(output)]), np.float32).reshape(shape))
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointInvalid(f"{where} lacks the sample that it is checked with") from error


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph and of the graphs in it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def load_file(
    path: Path, encoder: str, dataset: str, device: torch.device, precision: str, backend: str
) -> tuple[Backend, str, str]:
    """Return what runs an exported file, its path and its SHA-256."""
    from depth_anything_ros.backends.onnx_backend import OnnxFileBackend

    if backend not in ("auto", OnnxFileBackend.name):
        raise BackendError(f"{path} is run by backend {OnnxFileBackend.name}, not by {backend}")
    file = read_file(path.expanduser(), encoder, dataset)
    running = OnnxFileBackend(file.content, file.size, file.expected, SAMPLE_STEP, device, precision, cache_folder())
    logger.info("backend onnxruntime: %s, SHA-256 %s", path, file.sha256)
    return running, str(path), file.sha256
