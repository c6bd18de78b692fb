"""Settings of the core. Every default of the project is written here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputLimits:
    """Caps on what the network is asked to look at.

    The official resize makes the *short* side `input_size`, so a tiny but very elongated image
    becomes enormous (4000 x 1 pixels at 518: 2,072,000 x 518). These caps are checked on the
    numbers alone, before anything is allocated.
    """

    max_aspect_ratio: float = 8.0
    max_tokens: int = 10_000


@dataclass(frozen=True)
class ModelSettings:
    """Which network, from which file, on which device.

    Attributes:
        encoder: name in `model.registry.ENCODERS`.
        dataset: name in `model.registry.DATASETS`; decides metric or relative, and max_depth.
        checkpoint: path of a `.pth` or `.safetensors` file; None searches (see `weights.py`);
            `weights.UNTRAINED` builds seeded random weights, for trials without any.
        input_size: short side given to the network, in pixels.
        device: `auto` (CUDA when there is one), `cpu`, `cuda` or `cuda:N`.
        precision: `auto` (fp16 on CUDA, fp32 on a CPU), `fp32`, `bf16`, `fp16`.
        backend: `auto` or `torch`.
        download: fetch a missing official checkpoint from the Hugging Face Hub.
        accept_license: agree to the non-commercial licence of Base and Large beforehand.
    """

    encoder: str = "vits"
    dataset: str = "hypersim"
    checkpoint: str | None = None
    input_size: int = 518
    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"
    download: bool = True
    accept_license: bool = False

    @property
    def key(self) -> str:
        """Model key, `{encoder}_{dataset}_{input_size}`."""
        return f"{self.encoder}_{self.dataset}_{self.input_size}"


@dataclass(frozen=True)
class CacheSettings:
    """How much `ModelCache` keeps. `max_bytes` counts weights; None means no limit."""

    max_models: int = 4
    max_bytes: int | None = None
