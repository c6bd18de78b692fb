"""ONNX files from anywhere: a plain graph of bounded size runs, and everything else is refused before it does."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from depth_anything_ros.backends.onnx_files import check_content, contract, read_file
from depth_anything_ros.errors import CheckpointInvalid, CheckpointNotFound

SIZE = (28, 42)
Edit = Callable[[Any], None]


def sound_model() -> Any:
    """A small graph that says that it is the toy encoder's: the mean of the channels of its input."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *SIZE])
    depth = helper.make_tensor_value_info("depth", TensorProto.FLOAT, [1, *SIZE])
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    mean = helper.make_node("ReduceMean", ["image", "axes"], ["depth"], keepdims=0)
    graph = helper.make_graph([mean], "g", [image], [depth], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    says = contract("toy", "hypersim") | {"sample": "[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]"}
    helper.set_model_props(model, {f"depth_anything_ros.{name}": text for name, text in says.items()})
    return model


def check(model: Any) -> tuple[int, int]:
    return check_content(model.SerializeToString(), "it", "toy", "hypersim").size


def insert(model: Any, *nodes: Any) -> None:
    """Put nodes that make `extra` before the mean, which then reads it as well."""
    model.graph.node[0].output[0] = "mean"
    model.graph.node.extend([*nodes, helper.make_node("Add", ["mean", "extra"], ["depth"])])


def test_a_plain_graph_is_accepted() -> None:
    model = sound_model()
    assert check(model) == SIZE
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    assert check(model) == SIZE


def external_tensor() -> Any:
    tensor = TensorProto(dims=[1], data_type=TensorProto.FLOAT, name="t", data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="side.bin")
    return tensor


def external_initializer(model: Any) -> None:
    model.graph.initializer.append(external_tensor())


def external_constant(model: Any) -> None:
    insert(model, helper.make_node("Constant", [], ["extra"], value=external_tensor()))


def external_sparse_constant(model: Any) -> None:
    indices = numpy_helper.from_array(np.array([0], np.int64), "i")
    sparse = onnx.SparseTensorProto(values=external_tensor(), indices=indices, dims=[1])
    insert(model, helper.make_node("Constant", [], ["extra"], sparse_value=sparse))


def sparse_initializer(model: Any) -> None:
    model.graph.sparse_initializer.add(values=external_tensor(), dims=[1])


def inner_graph() -> Any:
    value = helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])
    return helper.make_graph([helper.make_node("Constant", [], ["c"], value=external_tensor())], "g", [], [value])


def hidden_in_a_branch(model: Any) -> None:
    insert(model, helper.make_node("If", ["image"], ["extra"], then_branch=inner_graph(), else_branch=inner_graph()))


def graph_in_an_allowed_operator(model: Any) -> None:
    insert(model, helper.make_node("Identity", ["image"], ["extra"], strange=inner_graph()))


def endless_loop(model: Any) -> None:
    insert(model, helper.make_node("Loop", ["", "", "image"], ["extra"], body=inner_graph()))


def function_that_doubles(model: Any) -> None:
    opset = [helper.make_opsetid("", 18)]
    node = helper.make_node("Add", ["x", "x"], ["y"])
    model.functions.append(helper.make_function("mine", "Double", ["x"], ["y"], [node], opset))


def other_domain(model: Any) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def operator_of_another_domain(model: Any) -> None:
    insert(model, helper.make_node("Add", ["image", "image"], ["extra"], domain="com.microsoft"))


def expansion(model: Any) -> None:
    shape = numpy_helper.from_array(np.array([1, 1, 32768, 32768], np.int64), "shape")
    model.graph.initializer.append(shape)
    insert(
        model,
        helper.make_node("ConstantOfShape", ["shape"], ["large"]),
        helper.make_node("ReduceMean", ["large"], ["extra"]),
    )


def many_large_values(model: Any) -> None:
    factor = helper.make_tensor("factor", TensorProto.FLOAT, [1], [2.0])
    model.graph.initializer.append(factor)
    names = ["image", *(f"v{number}" for number in range(9999))]
    mean = model.graph.node.pop()
    mean.input[0] = names[-1]
    pairs = itertools.pairwise(names)
    model.graph.node.extend([helper.make_node("Mul", [before, "factor"], [name]) for before, name in pairs])
    model.graph.node.append(mean)


def too_many_operators(model: Any) -> None:
    model.graph.node.extend([helper.make_node("Relu", ["image"], [f"n{number}"]) for number in range(10_001)])


def shape_that_follows_from_values(model: Any) -> None:
    insert(
        model,
        helper.make_node("Cast", ["image"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Flatten", ["whole"], ["flat"], axis=0),
        helper.make_node("Squeeze", ["flat"], ["line"]),
        helper.make_node("ConstantOfShape", ["line"], ["extra"]),
    )


def tensor_larger_than_the_file(model: Any) -> None:
    model.graph.initializer.append(TensorProto(dims=[1 << 40], data_type=TensorProto.FLOAT, name="t", raw_data=b"0000"))


def negative_dimension(model: Any) -> None:
    model.graph.initializer.append(TensorProto(dims=[-1], data_type=TensorProto.FLOAT, name="t", raw_data=b"0000"))


def no_input(model: Any) -> None:
    del model.graph.input[:]


def two_inputs(model: Any) -> None:
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))


def input_of_rank_two(model: Any) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, [28, 42]))


def input_without_a_shape(model: Any) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, None))


def input_of_bytes(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def input_that_is_no_tensor(model: Any) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("image", TensorProto.FLOAT, [1]))


def input_of_odd_size(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 30


def huge_input(model: Any) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 14 * 10_000


def other_output(model: Any) -> None:
    model.graph.output[0].name = model.graph.node[0].output[0] = "x" * 100_000


def output_of_whole_numbers(model: Any) -> None:
    model.graph.node[0].output[0] = "mean"
    model.graph.node.append(helper.make_node("Cast", ["mean"], ["depth"], to=TensorProto.INT64))


def output_of_another_shape(model: Any) -> None:
    model.graph.node[0].attribute[0].i = 1  # keepdims


REFUSED: dict[Edit, str] = {
    external_initializer: "refers to other files",
    external_constant: "refers to other files",
    external_sparse_constant: "holds 'sparse_tensor' in attribute 'sparse_value' of Constant",
    sparse_initializer: "holds sparse tensors",
    hidden_in_a_branch: "uses operator 'If'",
    graph_in_an_allowed_operator: "holds 'g' in attribute 'strange' of Identity",
    endless_loop: "uses operator 'Loop'",
    function_that_doubles: "holds functions",
    other_domain: "holds operators of another domain",
    operator_of_another_domain: "uses operator 'Add'",
    expansion: r"produces 'large' of shape \(1, 1, 32768, 32768\): more than this encoder needs",
    many_large_values: "produces .v5461. of shape .*: more than this encoder needs",
    too_many_operators: "has 10002 operators; at most 10000",
    shape_that_follows_from_values: "(does not determine the shape of|is not a sound graph)",
    tensor_larger_than_the_file: "is damaged: tensor 't' is larger than the file",
    negative_dimension: "is damaged: tensor 't' is larger than the file",
    no_input: "has inputs none; needed: one input 'image'",
    two_inputs: "has inputs 'image', 'other'; needed: one input",
    input_of_rank_two: r"has an input of type 1 and shape \[28, 42\]; needed: one input",
    input_without_a_shape: r"has an input of type 1 and shape \[\]",
    input_of_bytes: "has an input of type 2",
    input_that_is_no_tensor: "has an input of type 0",
    input_of_odd_size: "is for images of 42x30 pixels; .* multiples of 14",
    huge_input: "is for images of 140000x140000 pixels; .* 10000 patches at most",
    other_output: "has outputs 'x{40}'; needed: depth",
    output_of_whole_numbers: "(gives 'depth' with a type other than float32|is not a sound graph)",
    output_of_another_shape: r"(gives 'depth' of shape \(1, 1, 28, 42\); needed: \(1, 28, 42\)|is not a sound graph)",
}


@pytest.mark.parametrize("edit", REFUSED, ids=lambda edit: str(edit.__name__))
def test_what_is_no_plain_graph_is_refused_in_one_short_line_before_it_runs(edit: Edit) -> None:
    model = sound_model()
    edit(model)
    with pytest.raises(CheckpointInvalid, match=f"it {REFUSED[edit]}") as refusal:
        check(model)
    assert len(str(refusal.value)) < 400
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "sample", ["[" * 100_000, "9" * 5000, "[[1e999]]", "[0,0,0,0,0,0]", "[0,0,0,0,0,NaN]", "{}", '"x"', "[]", "null"]
)
def test_a_sample_that_cannot_be_read_is_refused(sample: str) -> None:
    model = sound_model()
    [entry] = [entry for entry in model.metadata_props if entry.key.endswith("sample")]
    entry.value = sample
    with pytest.raises(CheckpointInvalid, match=r"lacks the sample|gives no depth"):
        check(model)


def test_a_path_that_is_no_regular_file_is_told_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.onnx")
    with pytest.raises(CheckpointInvalid, match="not a regular file"):
        read_file(tmp_path / "fifo.onnx", "toy", "hypersim")
    with pytest.raises(CheckpointNotFound, match="File name too long"):
        read_file(tmp_path / ("x" * 300 + ".onnx"), "toy", "hypersim")
    with (tmp_path / "sparse.onnx").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointInvalid, match="has 1099511627776 bytes; at most"):
        read_file(tmp_path / "sparse.onnx", "toy", "hypersim")
