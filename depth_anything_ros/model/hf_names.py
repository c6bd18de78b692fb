"""Names of the tensors in the Hub's `-hf` checkpoints, and the official ones they stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

# `-hf` name -> official name; \1 is a block or level number.
_RULES: list[tuple[str, str]] = [
    (r"backbone\.embeddings\.(cls_token|mask_token)", r"pretrained.\1"),
    (r"backbone\.embeddings\.position_embeddings", r"pretrained.pos_embed"),
    (r"backbone\.embeddings\.patch_embeddings\.projection\.", r"pretrained.patch_embed.proj."),
    (r"backbone\.layernorm\.", r"pretrained.norm."),
    (r"backbone\.encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"pretrained.blocks.\1.attn.proj."),
    (r"backbone\.encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"pretrained.blocks.\1.ls\2.gamma"),
    (r"backbone\.encoder\.layer\.(\d+)\.(norm[12]|mlp\.fc[12])\.", r"pretrained.blocks.\1.\2."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.projection\.", r"depth_head.projects.\1."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.resize\.", r"depth_head.resize_layers.\1."),
    (r"head\.conv1\.", r"depth_head.scratch.output_conv1."),
    (r"head\.conv2\.", r"depth_head.scratch.output_conv2.0."),
    (r"head\.conv3\.", r"depth_head.scratch.output_conv2.2."),
]
_QKV = re.compile(r"backbone\.encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)")
_NECK = re.compile(r"neck\.convs\.(\d)\.weight")
_FUSION = re.compile(r"neck\.fusion_stage\.layers\.(\d)\.(.+)")
_FUSION_RULES = [
    (r"projection\.", "out_conv."),
    (r"residual_layer(\d)\.convolution(\d)\.", r"resConfUnit\1.conv\2."),
]


def from_hf_names(state_dict: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a `-hf` checkpoint under the official names; q, k and v are joined.

    Names without an official counterpart are kept: the layout check reports them.
    """
    qkv: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state_dict.items():
        match = _QKV.fullmatch(name)
        if match:
            qkv.setdefault(f"pretrained.blocks.{match[1]}.attn.qkv.{match[3]}", {})[match[2]] = tensor
        else:
            yield _official_name(name), tensor
    for name, parts in qkv.items():
        if len(parts) == 3:
            yield name, torch.cat([parts["query"], parts["key"], parts["value"]])


def _official_name(name: str) -> str:
    if match := _NECK.fullmatch(name):
        return f"depth_head.scratch.layer{int(match[1]) + 1}_rn.weight"
    if match := _FUSION.fullmatch(name):  # the -hf code counts from the coarsest level
        return f"depth_head.scratch.refinenet{4 - int(match[1])}.{_rename(match[2], _FUSION_RULES)}"
    return _rename(name, _RULES)


def _rename(name: str, rules: list[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        renamed, count = re.subn("^" + pattern, replacement, name)
        if count:
            return renamed
    return name
