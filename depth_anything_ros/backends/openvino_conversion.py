"""A torch network becomes an OpenVINO model, one for all sizes where that is possible."""

from __future__ import annotations

import sys
import threading
import warnings
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything_ros.backends.network_source import NetworkSource, twin
from depth_anything_ros.backends.per_shape import Size
from depth_anything_ros.errors import BackendError
from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.model.dinov2 import Attention
from depth_anything_ros.model.registry import PATCH_SIZE

CHANNELS_AXIS = 1
MAX_END_CHANNELS = 2  # every other convolution has more
EXAMPLE = (3 * PATCH_SIZE, 4 * PATCH_SIZE)  # sides differ, so that none is taken for the other
# Up to a side of 14,000 pixels, more than the limits on tokens let through.
MAX_PATCHES = 1000
CORE_LOCK = threading.Lock()


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which reports every conversion to its makers by default.

    Raises:
        BackendError: it is not installed, or does not load.
    """
    # With None the import fails, and OpenVINO runs without telemetry.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module("openvino")
    except Exception as error:  # a broken installation fails in any way
        raise BackendError(
            f"OpenVINO cannot be imported ({error}): pip install 'depth_anything_ros[openvino]'"
        ) from error


def the_core() -> Any:
    """Return OpenVINO's core, one for the whole process. Raises BackendError: OpenVINO is missing.

    Its CPU plugin gives the thread a signal stack for as long as a core lives. Cores that end in another order
    than last in, first out leave the thread with a stack in freed memory, and the next signal kills the process.
    """
    openvino = import_openvino()
    with CORE_LOCK:
        return _core_of(openvino)


@cache
def _core_of(openvino: Any) -> Any:
    return openvino.Core()


class SplitAttention(Attention):
    """Attention with three matrix products for queries, keys and values.

    Torch is faster with one. OpenVINO's attention then reads each without a copy that reorders it.
    """

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `Attention.split`."""
        batch, tokens, dim = x.shape
        parts = zip(self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), strict=True)
        shape = (batch, tokens, self.num_heads, dim // self.num_heads)
        query, key, value = (F.linear(x, weight, bias).view(shape).transpose(1, 2) for weight, bias in parts)
        return query, key, value


class AnySize(nn.Module):
    """A network that is given the position embedding of its input's size, (image, position embedding) -> outputs."""

    def __init__(self, network: DepthNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, pos_embed: Tensor) -> Any:
        self.network.pretrained.pos_embed_for = lambda rows, columns: pos_embed  # type: ignore[method-assign]
        return self.network(x)


def convert(source: NetworkSource, size: Size | None) -> Any:
    """Return an OpenVINO model for one size, or with None for every size: image and position embedding -> outputs.

    It shares memory with the network, and is kept while that is held: every precision is compiled from one. A
    model for every size takes four times as long to convert.
    """
    return source.derived(size, lambda: _convert(source, size))


def _convert(source: NetworkSource, size: Size | None) -> Any:
    openvino = import_openvino()
    network = twin(source.get())
    for module in network.modules():
        if isinstance(module, Attention):
            module.split = SplitAttention.split.__get__(module)  # type: ignore[method-assign]
    height, width = size or EXAMPLE
    example = (torch.zeros(1, 3, height, width), source.pos_embed(height // PATCH_SIZE, width // PATCH_SIZE))
    shapes = None
    if size is None:
        rows, columns = (torch.export.Dim(name, min=2, max=MAX_PATCHES) for name in ("rows", "columns"))
        shapes = ({2: PATCH_SIZE * rows, 3: PATCH_SIZE * columns}, {1: torch.export.Dim.AUTO})
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both libraries warn about their own code
        exported = torch.export.export(AnySize(network), example, dynamic_shapes=shapes)
        model = openvino.convert_model(exported)
    if size is None:
        model.reshape({model.inputs[0]: [1, 3, -1, -1], model.inputs[1]: [1, -1, source.embed_dim]})
    return model


def for_bf16(model: Any) -> Any:
    """Return a copy to be compiled in bf16: it ends in float32, and its weights take half the memory.

    OpenVINO keeps the weights as they were given beside those that it packs for its kernels. float16 has three
    bits more than bf16, so what the kernels get differs by less than their own rounding.
    """
    model = with_single_ends(model)
    import_module("openvino._offline_transformations").compress_model_transformation(model)
    return model


def with_single_ends(model: Any) -> Any:
    """Return a copy with the convolutions that end in one or two channels, all 1x1, written as weighted sums.

    OpenVINO runs every convolution in the reduced precision, its weights included, but leaves what
    follows the last one in float32.
    """
    opset, model = import_openvino().opset13, model.clone()
    axis = opset.constant(np.array([CHANNELS_AXIS], np.int64))
    for last in [op for op in model.get_ordered_ops() if _is_end(op)]:
        x, weights = last.input_value(0), last.input_value(1).get_node().data  # (channels, C, 1, 1)
        sums = [
            opset.reduce_sum(opset.multiply(x, opset.constant(each[None])), axis, keep_dims=True) for each in weights
        ]
        end = sums[0] if len(sums) == 1 else opset.concat(sums, CHANNELS_AXIS)
        for reader in list(last.output(0).get_target_inputs()):
            reader.replace_source_output(end.output(0))
    model.validate_nodes_and_infer_types()
    return model


def _is_end(op: Any) -> bool:
    """Whether an operation is the last convolution of an output branch."""
    return op.get_type_name() == "Convolution" and int(op.input_value(1).get_shape()[0]) <= MAX_END_CHANNELS
