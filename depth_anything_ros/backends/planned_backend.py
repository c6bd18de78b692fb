"""Runs the fastest candidate that is true enough: by the plan that is kept, or one made at the first image."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from depth_anything_ros.backends import parity
from depth_anything_ros.backends.fidelity import judge, judge_leniently, rooms
from depth_anything_ros.backends.linear_layout import CONVOLUTION, MATMUL
from depth_anything_ros.backends.network_source import NetworkSource
from depth_anything_ros.backends.onnx_backend import OnnxBackend
from depth_anything_ros.backends.openvino_backend import OpenVinoBackend, has_bf16
from depth_anything_ros.backends.openvino_conversion import import_openvino
from depth_anything_ros.backends.per_shape import Size
from depth_anything_ros.backends.plan import Candidate, Plan, PlanStore, measure
from depth_anything_ros.backends.protocol import Backend
from depth_anything_ros.backends.torch_backend import TorchBackend
from depth_anything_ros.errors import BackendError
from depth_anything_ros.model.depth_network import Outputs
from depth_anything_ros.runtime.device import free_unused_memory
from depth_anything_ros.runtime.hardware import hardware_name

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
MANY_THREADS = 4  # from here on half of them may be faster
PLAIN = Candidate("torch", "fp32", MATMUL)  # runs everywhere
Build = Callable[[Candidate], Backend]


def candidates_for(backend: str, precision: str, threads: int, *, thorough: bool = False) -> list[Candidate]:
    """Return the ways to run a network on this CPU that a backend and a precision, both perhaps `auto`, leave open.

    Args:
        threads: torch's number.
        thorough: those, too, that have not won anywhere yet.
    """
    try:
        import_openvino()
        has_openvino, native_bf16 = True, has_bf16()
    except BackendError as error:
        logger.info("without OpenVINO: %s", error)
        has_openvino, native_bf16 = False, bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    found = []
    if has_openvino:
        found += [Candidate("openvino", "fp32")]
        if native_bf16 or precision == "bf16":
            found += [Candidate("openvino", "bf16")]
        if thorough and threads >= MANY_THREADS:
            found += [Candidate("openvino", each.precision, threads=threads // 2) for each in found]
    if thorough or not has_openvino or backend == "onnxruntime":
        found += [Candidate("onnxruntime", "fp32")]
    found += [Candidate("torch", "fp32", MATMUL), Candidate("torch", "fp32", CONVOLUTION)]
    if native_bf16 or precision == "bf16":
        found += [Candidate("torch", "bf16")]
    return [each for each in found if backend in ("auto", each.backend) and precision in ("auto", each.precision)]


class PlannedBackend:
    """See `backends.Backend`.

    Args:
        source: the network.
        candidates: what may be chosen; one alone is taken without measuring.
        more: what `tune` tries beside these.
        cache_folder: plans are kept in its folder `plans`; None keeps none.
        asked: what the candidates were chosen for; it is a part of what a plan is kept under.
        named: the precision was asked for by name: it is used, whatever trained weights say of it.
        falls_back: run torch for good when the chosen backend fails.
        background: answer by torch while a plan is made, and as `OpenVinoBackend`.
        build: makes a candidate's backend.
    """

    device = CPU
    max_batch = 1

    def __init__(
        self,
        source: NetworkSource,
        candidates: Sequence[Candidate],
        cache_folder: Path | None = None,
        *,
        more: Sequence[Candidate] = (),
        asked: tuple[str, ...] = (),
        named: bool = False,
        falls_back: bool = True,
        background: bool = False,
        build: Build | None = None,
    ) -> None:
        self._source = source
        self._candidates = list(candidates)
        self._more = [each for each in more if each not in self._candidates]
        self._cache_folder = cache_folder
        self._verdict = judge if not named else judge_leniently
        self._falls_back = falls_back
        self._background = background
        self._build = build or self._backend
        folder = None if cache_folder is None else cache_folder / "plans"
        self._store = PlanStore(folder, (*asked, *_machine(), source.fingerprint), self._candidates + self._more)
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._running: Backend | None = None
        self._chooser: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Of the backend that runs, or that will."""
        return self._likely().backend if self._running is None else self._running.name

    @property
    def precision(self) -> str:
        """Of the backend that runs, or that will."""
        return self._likely().precision if self._running is None else self._running.precision

    @property
    def weight_bytes(self) -> int:
        """Of the backend that runs."""
        return self._source.loaded_bytes if self._running is None else self._running.weight_bytes

    def __call__(self, x: Tensor) -> Outputs:
        size = (x.shape[2], x.shape[3])
        running = self._running or (self._start_choosing(size) if self._background else self._choose(size))
        if running is None:
            return parity.reference(self._source.get(), x)
        try:
            return running(x)
        except BackendError as error:
            if not self._falls_back:
                raise
            return self._fall_back(running, error)(x)

    def prepare(self, size: Size) -> None:
        """Choose, and build what a size needs, now. Raises BackendError: nothing can be built, and torch may not."""
        running = self._choose(size)
        if isinstance(running, (OpenVinoBackend, OnnxBackend)):
            try:
                running.prepare(size)
            except BackendError as error:
                if not self._falls_back:
                    raise
                self._fall_back(running, error)

    def tune(self, size: Size) -> Plan:
        """Measure all candidates, keep the plan and use it. Raises BackendError: none can be used."""
        with self._lock:
            plan, self._running = self._measured(size, self._candidates + self._more)
        return plan

    def _likely(self) -> Candidate:
        plan = self._store.load(None)
        return self._candidates[0] if plan is None else plan.best

    def _start_choosing(self, size: Size) -> Backend | None:
        with self._starting:
            if self._chooser is None:
                self._chooser = threading.Thread(target=self._choose_quietly, args=(size,), name="plan", daemon=True)
                self._chooser.start()
            return self._running

    def _choose_quietly(self, size: Size) -> None:
        try:
            self._choose(size)
        except Exception:
            logger.exception("no plan for this network; torch runs it")

    def _choose(self, size: Size) -> Backend:
        """Return the backend of the plan: the kept one, or a new one."""
        with self._lock:
            if self._running is None:
                try:
                    self._running = self._chosen(size)
                except BackendError as error:
                    if not self._falls_back:
                        raise
                    logger.warning("backend torch: %s", error)
                    self._running = self._build(PLAIN)
            return self._running

    def _chosen(self, size: Size) -> Backend:
        if len(self._candidates) == 1:
            return self._finished(self._build(self._candidates[0]))
        plan = self._store.load(size)
        if plan is None:
            return self._measured(size, self._candidates)[1]
        logger.info("backend %s: by the plan measured here before", plan.best)
        return self._finished(self._build(plan.best))

    def _measured(self, size: Size, candidates: Sequence[Candidate]) -> tuple[Plan, Backend]:
        logger.info("measuring %d ways to run this network, once for this machine", len(candidates))
        with self._source.held() as network:
            scenes = rooms(size)
            expected = [parity.reference(network, room.x) for room in scenes]
            built: dict[Candidate, Backend] = {}

            def make(candidate: Candidate) -> Backend:
                built[candidate] = backend = self._build(candidate)
                return backend

            plan = Plan(size, measure(candidates, make, scenes, expected, verdict=self._verdict))
            best = self._finished(built[plan.best])
            built.clear()
        free_unused_memory()
        for row in plan.rows:
            logger.info("%s: %s, %s", row.candidate, "-" if row.ms is None else f"{row.ms:.1f} ms", row.says)
        logger.info("backend %s: the fastest of these", plan.best)
        self._store.keep(plan)
        return plan, best

    def _finished(self, backend: Backend) -> Backend:
        if isinstance(backend, OpenVinoBackend):
            backend.background = self._background
        return backend

    def _backend(self, candidate: Candidate) -> Backend:
        """Build a candidate. Torch runs a copy of the network: others are converted from the source's as it is."""
        if candidate.backend == "openvino":
            threads = candidate.threads or None
            return OpenVinoBackend(self._source, candidate.precision, self._cache_folder, threads)
        if candidate.backend == "onnxruntime":
            return OnnxBackend(self._source, CPU, candidate.precision, self._cache_folder)
        with self._source.held() as network:
            return TorchBackend(copy.deepcopy(network), CPU, candidate.precision, layout=candidate.layout)

    def _fall_back(self, failed: Backend, error: BackendError) -> Backend:
        with self._lock:
            if self._running is None or self._running is failed:
                logger.warning("backend torch from here on: %s", error)
                self._running = self._build(PLAIN)
            return self._running


def _machine() -> tuple[object, ...]:
    """Processor, threads and versions."""
    try:
        openvino = import_openvino().get_version()
    except BackendError:
        openvino = ""
    return hardware_name(CPU), torch.get_num_threads(), torch.__version__, openvino
