"""The training loop: schedule, optimizers, and a state that can be resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from depth_anything_ros.io.whole_files import write_file
from depth_anything_ros.model.depth_network import DepthNetwork
from training.data import RenderedRooms
from training.losses import depth_loss


@dataclass(frozen=True)
class Stage:
    """Train on `frames` pictures of `size` (h, w), `batch` at a time."""

    size: tuple[int, int]
    frames: int
    batch: int

    @property
    def steps(self) -> int:
        """Steps of the whole stage."""
        return self.frames // self.batch


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the result, apart from the code and the machine's arithmetic.

    Attributes:
        stages: one after the other, from small pictures to large ones: most is learnt where steps are cheap. No
            average of the weights is kept: one over steps at two sizes is far worse than either end.
        seed: of the weights and of every picture.
        matrix_lr: for the matrices of the transformer's blocks (Muon). lr: for everything else (AdamW).
        weight_decay: of both. warmup_steps: until the rates are reached; then they fall along half a cosine.
        max_gradient: norm at which gradients are cut.
    """

    stages: tuple[Stage, ...]
    seed: int = 0
    matrix_lr: float = 2e-3
    lr: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 200
    max_gradient: float = 1.0

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def pixels(self) -> int:
        """Pixels of all stages, in which progress is measured."""
        return sum(stage.steps * stage.batch * math.prod(stage.size) for stage in self.stages)

    def schedule(self) -> Iterator[tuple[Stage, float]]:
        """Yield the stage of every step, and how far along the training is, from 0 to 1."""
        done, total = 0, self.pixels
        for stage in self.stages:
            for _ in range(stage.steps):
                yield stage, done / total
                done += stage.batch * math.prod(stage.size)


class Trainer:
    """Trains one network on rendered rooms.

    Args:
        network: freshly built; its weights are set here.
        recipe: what to do.
        data: where the pictures come from.
        max_depth_m: metres at the network's full output.
    """

    def __init__(self, network: DepthNetwork, recipe: Recipe, data: RenderedRooms, max_depth_m: float) -> None:
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe = recipe
        self.step = 0
        self.seconds = 0.0
        self._data = data
        self._max_depth_m = max_depth_m
        self._device = next(network.parameters()).device
        self._optimizers = make_optimizers(network, recipe)
        self._rates = [optimizer.param_groups[0]["lr"] for optimizer in self._optimizers]

    def run(self) -> Iterator[float]:
        """Do the remaining steps; yields each one's mean relative error."""
        for number, (stage, progress) in enumerate(self.recipe.schedule()):
            if number < self.step:
                continue
            started_s = time.monotonic()
            self._set_rates(min(1.0, (number + 1) / self.recipe.warmup_steps) * (1 + math.cos(math.pi * progress)) / 2)
            error = self._train(number, stage)
            self.step = number + 1
            self.seconds += time.monotonic() - started_s
            yield error

    def _train(self, number: int, stage: Stage) -> float:
        batch = self._data.batch(number, stage.batch, stage.size)
        with torch.autocast(self._device.type, dtype=torch.bfloat16):  # the network's last layer stays float32
            output: Tensor
            (output,) = self.network(batch.images)
        predicted_m = output.float() * self._max_depth_m
        loss = depth_loss(predicted_m, batch.depth)
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.max_gradient)
        for optimizer in self._optimizers:
            optimizer.step()
        return float(((predicted_m.detach() - batch.depth).abs() / batch.depth).mean())

    def _set_rates(self, factor: float) -> None:
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor

    def save(self, path: Path) -> None:
        """Write the state; the file is always a whole one. Raises CannotWrite."""
        state = {
            "recipe": repr(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        write_file(path, lambda partial: torch.save(state, partial))

    def resume(self, path: Path) -> None:
        """Go on from a saved state. Raises ValueError if another recipe made it."""
        state: dict[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
        if state["recipe"] != repr(self.recipe):
            raise ValueError(f"{path} belongs to another recipe: {state['recipe']}")
        self.step, self.seconds = state["step"], state["seconds"]
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def make_optimizers(network: DepthNetwork, recipe: Recipe) -> list[Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the blocks, AdamW for the rest."""
    matrices = [p for p in network.pretrained.blocks.parameters() if p.dim() == 2]
    known = {id(parameter) for parameter in matrices}
    rest = [p for p in network.parameters() if id(p) not in known]
    decay = recipe.weight_decay
    return [
        Muon(matrices, lr=recipe.matrix_lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        AdamW(rest, lr=recipe.lr, weight_decay=decay),
    ]
