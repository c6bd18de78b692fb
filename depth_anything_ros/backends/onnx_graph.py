"""What an ONNX file may hold before ONNX Runtime gets it: a plain graph, whole in itself, of bounded size.

A file from anywhere could read other files, loop for ever, or fill the memory from a few bytes. Here its graph is
looked at without running it: operators by a list, no functions and no graphs within it, every tensor in the file,
and the shape of every value known and bounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from depth_anything_ros.errors import CheckpointInvalid
from depth_anything_ros.model.registry import PATCH_SIZE, EncoderSpec
from depth_anything_ros.settings import InputLimits

# What torch's exporter writes for these networks, and NNCF for them in int8. The result's size follows from the shapes,
# for all of them.
# fmt: off
OPERATORS = {
    "Abs", "Add", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos",
    "DequantizeLinear", "Div", "Equal", "Erf", "Exp", "Expand", "Flatten", "Gather", "Gelu", "Gemm", "Identity",
    "LayerNormalization", "Log", "MatMul", "Max", "Min", "Mul", "Neg", "Pad", "Pow", "QuantizeLinear", "Reciprocal",
    "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Sin", "Slice", "Softmax", "Softplus",
    "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
}
# fmt: on
ATTRIBUTE_FIELDS = {"name", "type", "doc_string", "f", "i", "s", "t", "floats", "ints", "strings"}
MAX_NODES = 10_000
VALUES_PER_BYTE = 2  # of the narrowest type
SMALL_TENSOR = 64  # values; the sizes and axes that shapes are told by, and nothing larger
CHANNELS, RANK, MAP_RANK = 3, 4, 3
FLOAT32 = 1  # onnx.TensorProto.FLOAT
# Above what these networks need at most. A value is one result of one operator.
VALUE_MARGIN, TOTAL_MARGIN = 4, 8


def check_graph(
    model: Any, content_bytes: int, image: str, outputs: Sequence[str], spec: EncoderSpec, where: str
) -> tuple[int, int]:
    """Check a parsed ONNX model, and return the (h, w) of its input.

    Args:
        model: `onnx.ModelProto`.
        content_bytes: length of the file.
        image, outputs: names of the input and of the outputs.
        spec: encoder that the model has to be.
        where: the file, for errors.

    Raises:
        CheckpointInvalid: it is no plain graph of this input and these outputs, or it is too large.
    """
    graph = model.graph
    _check_parts(model, where)
    _check_nodes(graph, where)
    _check_tensors(graph, content_bytes, where)
    size = _input_size(graph, image, where)
    if [output.name for output in graph.output] != list(outputs):
        found = ", ".join(repr(output.name[:40]) for output in graph.output[:4])
        raise CheckpointInvalid(f"{where} has outputs {found or 'none'}; needed: {', '.join(outputs)}")
    _check_shapes(model, size, spec, where)
    return size


def _check_parts(model: Any, where: str) -> None:
    domains = {opset.domain for opset in model.opset_import}
    for holds, what in (
        (model.functions, "functions"),
        (model.training_info, "training steps"),
        (model.graph.sparse_initializer, "sparse tensors"),
        (domains - {""}, "operators of another domain"),
    ):
        if holds:
            raise CheckpointInvalid(f"{where} holds {what}; only a plain graph is loaded")


def _check_nodes(graph: Any, where: str) -> None:
    if len(graph.node) > MAX_NODES:
        raise CheckpointInvalid(f"{where} has {len(graph.node)} operators; at most {MAX_NODES} are loaded")
    for node in graph.node:
        if node.domain or node.op_type not in OPERATORS:
            raise CheckpointInvalid(
                f"{where} uses operator {node.op_type!r:.40}, which no network of this project has; it is not loaded"
            )
        for attribute in node.attribute:
            strange = {field.name for field, _ in attribute.ListFields()} - ATTRIBUTE_FIELDS
            if strange:
                raise CheckpointInvalid(
                    f"{where} holds {strange.pop()!r} in attribute {attribute.name!r:.40} of {node.op_type}; "
                    "only numbers, text and dense tensors are loaded"
                )


def _check_tensors(graph: Any, content_bytes: int, where: str) -> None:
    for tensor in _tensors(graph):
        if tensor.external_data or tensor.data_location:
            raise CheckpointInvalid(
                f"{where} refers to other files: one whose SHA-256 does not cover them is not loaded"
            )
        if min(tensor.dims, default=0) < 0 or math.prod(tensor.dims) > content_bytes * VALUES_PER_BYTE:
            raise CheckpointInvalid(f"{where} is damaged: tensor {tensor.name!r:.80} is larger than the file")


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph that `_check_nodes` accepts."""
    yield from graph.initializer
    for node in graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _input_size(graph: Any, image: str, where: str) -> tuple[int, int]:
    needed = f"needed: one input {image!r}, float32 (1 or batch, 3, h, w), h and w multiples of {PATCH_SIZE}"
    if len(graph.input) != 1 or graph.input[0].name != image:
        found = ", ".join(repr(value.name[:40]) for value in graph.input[:4])
        raise CheckpointInvalid(f"{where} has inputs {found or 'none'}; {needed}")
    tensor = graph.input[0].type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    if len(dims) != RANK or tensor.elem_type != FLOAT32 or dims[0] not in (0, 1) or dims[1] != CHANNELS:
        raise CheckpointInvalid(f"{where} has an input of type {tensor.elem_type} and shape {dims[:8]}; {needed}")
    h, w = dims[2:]
    tokens, limit = (h // PATCH_SIZE) * (w // PATCH_SIZE), InputLimits().max_tokens
    if h <= 0 or w <= 0 or h % PATCH_SIZE or w % PATCH_SIZE or tokens > limit:
        raise CheckpointInvalid(f"{where} is for images of {w}x{h} pixels; {needed}, {limit} patches at most")
    return h, w


def _check_shapes(model: Any, size: tuple[int, int], spec: EncoderSpec, where: str) -> None:
    """Infer the shape of every value by ONNX's own rules, for one image, and bound it."""
    import onnx

    h, w = size
    tokens = (h // PATCH_SIZE) * (w // PATCH_SIZE) + 1
    largest = VALUE_MARGIN * max(spec.num_heads * tokens**2, 2 * max(spec.features, SMALL_TENSOR) * h * w)
    try:
        inferred = onnx.shape_inference.infer_shapes(_without_weights(model), strict_mode=True, data_prop=True)
    except Exception as error:  # of the library's C++ part
        raise CheckpointInvalid(f"{where} is not a sound graph: {' '.join(str(error).split())[:200]}") from error
    shapes = {value.name: _shape(value) for value in (*inferred.graph.value_info, *inferred.graph.output)}
    total = 0
    for name in (name for node in model.graph.node for name in node.output if name):
        shape = shapes.get(name)
        if shape is None:
            raise CheckpointInvalid(f"{where} does not determine the shape of {name!r:.80}; it is not loaded")
        total += math.prod(shape)
        if math.prod(shape) > largest or total > TOTAL_MARGIN * spec.depth * largest:
            raise CheckpointInvalid(
                f"{where} produces {name!r:.80} of shape {shape[:8]}: more than this encoder needs; it is not loaded"
            )
    for output in inferred.graph.output:
        shape = shapes[output.name]
        if output.type.tensor_type.elem_type != FLOAT32:
            raise CheckpointInvalid(f"{where} gives {output.name!r} with a type other than float32")
        is_map = output.name == model.graph.output[0].name or (shape is not None and len(shape) == MAP_RANK)
        if is_map and shape != (1, h, w):
            raise CheckpointInvalid(f"{where} gives {output.name!r} of shape {shape}; needed: {(1, h, w)}")


def _without_weights(model: Any) -> Any:
    """Return a copy for one image whose large tensors are inputs, and which claims no shapes but theirs."""
    import onnx

    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = bare.graph
    graph.name = "shapes"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph.output.extend(onnx.ValueInfoProto(name=output.name) for output in model.graph.output)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SMALL_TENSOR:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return bare


def _shape(value: Any) -> tuple[int, ...] | None:
    """Shape of a value, or None where a dimension is not known."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None
