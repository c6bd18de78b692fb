"""Losses on log depth (Eigen et al. 2014, arXiv:1406.2283; gradient term after Li and Snavely 2018, MegaDepth)."""

from __future__ import annotations

from torch import Tensor

SILOG_LAMBDA = 0.85
SILOG_WEIGHT = 0.5
GRADIENT_WEIGHT = 0.5
GRADIENT_SCALES = (1, 2, 4)
MIN_DEPTH_M = 1e-2


def depth_loss(predicted_m: Tensor, truth_m: Tensor) -> Tensor:
    """Loss of predicted depth (B, h, w) against the truth, both in metres: one number."""
    difference = predicted_m.clamp(min=MIN_DEPTH_M).log() - truth_m.log()
    return log_l1(difference) + SILOG_WEIGHT * silog(difference) + GRADIENT_WEIGHT * log_gradients(difference)


def log_l1(difference: Tensor) -> Tensor:
    """Mean absolute difference of log depth: close to AbsRel where it is small."""
    return difference.abs().mean()


def silog(difference: Tensor) -> Tensor:
    """Scale-invariant error of each picture, averaged."""
    per_image = difference.flatten(1)
    variance = (per_image**2).mean(dim=1) - SILOG_LAMBDA * per_image.mean(dim=1) ** 2
    return variance.clamp(min=1e-8).sqrt().mean()


def log_gradients(difference: Tensor) -> Tensor:
    """How much log depth differs in its steps from pixel to pixel, at several scales: it keeps edges sharp."""
    total = difference.new_zeros(())
    for scale in GRADIENT_SCALES:
        coarse = difference[:, ::scale, ::scale]
        total = total + coarse.diff(dim=1).abs().mean() + coarse.diff(dim=2).abs().mean()
    return total
