"""OpenVINO for exported files: those in int8, and others where it is asked for."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from depth_anything_ros.backends.onnx_backend import check_size
from depth_anything_ros.backends.openvino_backend import HINTS, check_target, config_for
from depth_anything_ros.backends.openvino_conversion import the_core
from depth_anything_ros.backends.per_shape import Size
from depth_anything_ros.errors import BackendError, SettingsError
from depth_anything_ros.model.depth_network import Outputs


class OpenVinoFileBackend:
    """Runs one exported file, which was checked. See `backends.Backend`.

    Args:
        model: content of the file.
        size: (h, w) it is made for.
        precision: `fp32`, `bf16`, or `int8` for a file in int8; auto is fp32.
        device: OpenVINO's name of a device: `CPU`, `GPU`, `NPU`.

    Raises:
        BackendError: OpenVINO is missing, has no such device here, or cannot load the file.
        SettingsError: a precision that it does not have.
    """

    name = "openvino"
    max_batch = 1  # a compiled network is for one image

    def __init__(self, model: bytes, size: Size, precision: str = "auto", device: str = "CPU") -> None:
        if precision not in ("auto", "int8", *HINTS):
            raise SettingsError(f"backend openvino has no precision {precision!r}; it has auto, {', '.join(HINTS)}")
        core = the_core()
        target = check_target(core, device)
        self.device = torch.device("cpu")
        self.precision = "fp32" if precision == "auto" else precision
        self.weight_bytes = len(model)
        self._size = size
        self._lock = threading.Lock()
        try:
            network = core.read_model(model)
            network.reshape([1, 3, *size])
            # Before it is compiled: then outputs have names of other values, too, and any of them comes first.
            self._outputs: list[str] = [output.get_any_name() for output in network.outputs]
            compiled = core.compile_model(network, target, config_for(target, self.precision, torch.get_num_threads()))
            self._request = compiled.create_infer_request()
        except Exception as error:  # the library's kinds
            raise BackendError(f"openvino cannot load the network: {' '.join(str(error).split())[:300]}") from error

    def __call__(self, x: Tensor) -> Outputs:
        """float32 (1, 3, h, w) -> the network's outputs. Threads take turns. Raises ImageError: another size."""
        check_size(x, self._size)
        with self._lock:
            found = self._request.infer([x.contiguous().numpy()], share_inputs=True)
            return {name: torch.from_numpy(found[index]) for index, name in enumerate(self._outputs)}
