"""Which backends and precisions are measured."""

from __future__ import annotations

from importlib import metadata

# For each kind of device.
OURS = {
    "cpu": [
        ("auto", "auto"),
        ("torch", "fp32"),
        ("torch", "bf16"),
        ("openvino", "fp32"),
        ("openvino", "bf16"),
        ("onnxruntime", "fp32"),
    ],
    "cuda": [("torch", "fp32"), ("torch", "fp16")],
}


def is_installed(distribution: str) -> bool:
    """Whether a backend's library, which has the backend's name, is here."""
    if distribution == "auto":
        return True
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
