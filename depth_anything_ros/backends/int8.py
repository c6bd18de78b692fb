"""Networks in int8: NNCF finds the ranges of what flows through an exported network on pictures, and rounds by them.

The result is ONNX again, with QuantizeLinear and DequantizeLinear around the matrix products; their weights have 8
bits. OpenVINO computes these in 8 bits where the processor can.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from typing import Any

from torch import Tensor

from depth_anything_ros.backends.onnx_backend import INPUT, import_library
from depth_anything_ros.errors import BackendError

MIN_PICTURES = 20  # fewer see too little of what flows through the network
MAX_PICTURES = 300  # NNCF's own default; more do not make the ranges better
# They stay in float32. In 8 bits they cost the demonstration model 0.007 of AbsRel, for a fifth of its time.
FLOAT_OPERATORS = ["Conv", "ConvTranspose"]


def quantize(content: bytes, pictures: Sequence[Tensor]) -> bytes:
    """Return an exported fp32 network, for one image, in int8.

    Args:
        content: the ONNX file. Its metadata are kept.
        pictures: what the network will see, normalised, float32 (1, 3, h, w) each; at least one.

    Raises:
        BackendError: NNCF is missing, or cannot do it.
    """
    onnx, nncf = import_library("onnx"), import_nncf()
    model = onnx.load_model_from_string(content)
    dataset = nncf.Dataset([{INPUT: picture.numpy()} for picture in pictures])
    try:
        # It shows its progress on standard output, which is for results, and both libraries warn of their own code.
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantized = nncf.quantize(
                model,
                dataset,
                model_type=nncf.ModelType.TRANSFORMER,
                preset=nncf.QuantizationPreset.MIXED,
                ignored_scope=nncf.IgnoredScope(types=FLOAT_OPERATORS, validate=False),
                subset_size=len(pictures),
            )
        return quantized.SerializeToString()  # type: ignore[no-any-return]
    except Exception as error:  # NNCF's own kinds, onnxruntime's, protobuf's
        raise BackendError(f"NNCF cannot quantize the network: {type(error).__name__}: {error}") from error


def import_nncf() -> Any:
    """Import NNCF without its telemetry. Raises BackendError: it is not installed, or does not load."""
    # With None the import fails, and NNCF runs without telemetry.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nncf = import_module("nncf")
        logging.getLogger("nncf").setLevel(logging.ERROR)  # it tells every operator that it leaves alone
        return nncf
    except Exception as error:  # a broken installation fails in any way
        raise BackendError(f"NNCF cannot be imported ({error}): pip install 'depth_anything_ros[int8]'") from error
