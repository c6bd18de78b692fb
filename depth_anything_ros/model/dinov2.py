"""DINOv2 vision transformer (Oquab et al. 2023, arXiv:2304.07193): what all networks here share.

Parameter names are those of the official checkpoints. Inference only: no dropout, no masking. What Depth Anything 3
adds (camera token, rotary positions) is in `depth_anything_3_views`.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything_ros.model.registry import PATCH_SIZE, EncoderSpec

NORM_EPS = 1e-6
MLP_RATIO = 4
# The official code adds this to the patch counts before it divides them into a scale factor.
INTERPOLATE_OFFSET = 0.1
# Kept for the sizes used last. Making one takes milliseconds; for vits each takes 3 MB, for vitl 7 MB.
MAX_POS_EMBEDS = 24


class Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(*self.split(x))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, N, dim) -> query, key and value, each (B, heads, N, dim / heads)."""
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What `split` returns -> tokens (B, N, dim)."""
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, num_heads)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim)
        self.ls2 = LayerScale(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class PatchEmbed(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=PATCH_SIZE, stride=PATCH_SIZE)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class DINOv2(nn.Module):
    """Image (B, 3, h, w), normalised, h and w multiples of 14 -> tokens of four blocks.

    Args:
        norm_eps: of the last normalisation, which every tap goes through.
    """

    def __init__(self, spec: EncoderSpec, norm_eps: float = NORM_EPS) -> None:
        super().__init__()
        self.grid = spec.input_size // PATCH_SIZE
        self.layers = spec.layers
        self.cls_token = nn.Parameter(torch.zeros(1, 1, spec.embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid * self.grid, spec.embed_dim))
        self.patch_embed = PatchEmbed(spec.embed_dim)
        self.blocks = nn.ModuleList(Block(spec.embed_dim, spec.num_heads) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(spec.embed_dim, eps=norm_eps)
        self._pos_embeds: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()
        self.register_load_state_dict_post_hook(_forget_pos_embeds)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the normalised patch tokens (B, h/14 * w/14, embed_dim) of each block in `layers`."""
        x = self.embed(x)
        tokens = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.layers:
                tokens.append(self.norm(x)[:, 1:])
        return tokens

    def embed(self, x: Tensor) -> Tensor:
        """Image (B, 3, h, w) -> class token and patch tokens with their positions, (B, 1 + h/14 * w/14, embed_dim)."""
        rows, columns = x.shape[-2] // PATCH_SIZE, x.shape[-1] // PATCH_SIZE
        x = self.patch_embed(x)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        return x + self.pos_embed_for(rows, columns)

    def pos_embed_for(self, rows: int, columns: int) -> Tensor:
        """Return the position embedding (1, 1 + rows * columns, embed_dim), kept per size for inference."""
        if torch.is_grad_enabled():
            return self._interpolate_pos_embed(rows, columns)
        key = (rows, columns, self.pos_embed.dtype, self.pos_embed.device)
        cached = self._pos_embeds.pop(key, None)  # to the end; a thread that comes between makes its own
        if cached is None:
            cached = self._interpolate_pos_embed(rows, columns)
        self._pos_embeds[key] = cached
        while len(self._pos_embeds) > MAX_POS_EMBEDS:
            self._pos_embeds.popitem(last=False)
        return cached

    def _interpolate_pos_embed(self, rows: int, columns: int) -> Tensor:
        return interpolate_pos_embed(self.pos_embed, self.grid, rows, columns)


def interpolate_pos_embed(pos_embed: Tensor, grid: int, rows: int, columns: int) -> Tensor:
    """Position embedding (1, 1 + grid * grid, embed_dim) -> (1, 1 + rows * columns, embed_dim).

    Bicubic by scale factor, as the official code does it: by size gives other values.
    """
    if rows == columns == grid:
        return pos_embed
    cls_embed, patch_embed = pos_embed[:, :1], pos_embed[:, 1:].float()
    scale = ((rows + INTERPOLATE_OFFSET) / grid, (columns + INTERPOLATE_OFFSET) / grid)
    patch_embed = patch_embed.view(1, grid, grid, -1).permute(0, 3, 1, 2)
    patch_embed = F.interpolate(patch_embed, scale_factor=scale, mode="bicubic")
    assert patch_embed.shape[-2:] == (rows, columns), "the scale factor must reproduce the patch grid"
    patch_embed = patch_embed.permute(0, 2, 3, 1).flatten(1, 2).to(pos_embed.dtype)
    return torch.cat((cls_embed, patch_embed), dim=1)


def _forget_pos_embeds(module: DINOv2, _: object) -> None:
    module._pos_embeds.clear()


def reset_parameters(module: nn.Module, generator: torch.Generator) -> None:
    """Fill every parameter from a seeded generator. Activations stay in the range of a trained network's."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            std = 1.0 / math.sqrt(fan_in) if parameter.dim() > 1 else 0.02
            parameter.normal_(0.0, std, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)
            if name.endswith("gamma"):
                parameter.add_(0.2)
