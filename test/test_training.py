"""Training: the same steps from the same seed, interrupted or not, and weights that the estimator loads."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.build import build_model
from training.data import RenderedRooms, camera_rays
from training.losses import depth_loss, log_gradients, log_l1, silog
from training.trainer import Recipe, Stage, Trainer

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
RECIPE = Recipe((Stage((28, 42), 6, 2), Stage((42, 56), 4, 2)), seed=1)
# What a run of seconds does: one step, and two scenes to look at.
QUICK = ("--frames", "0.0004", "--no-compile", "--validation-scenes", "2", "--device", "cpu")


def trainer(recipe: Recipe = RECIPE) -> Trainer:
    torch.manual_seed(recipe.seed)
    return Trainer(build_model("toy", "hypersim"), recipe, RenderedRooms(recipe.seed, CPU), 10.0)


def test_a_step_has_its_own_pictures_and_always_the_same() -> None:
    one, same, other = (RenderedRooms(0, CPU).batch(step, 2, (28, 42)) for step in (3, 3, 4))
    torch.testing.assert_close((one.images, one.depth), (same.images, same.depth), rtol=0, atol=0)
    assert (one.depth - other.depth).abs().mean() > 0.01
    assert one.images.shape == (2, 3, 28, 42)
    assert one.depth.shape == (2, 28, 42)
    assert (one.depth[0] - one.depth[1]).abs().mean() > 0.01


def test_rays_of_a_lens_bend_back_onto_its_pixels() -> None:
    import numpy as np

    rays = camera_rays(np.random.default_rng(0), 64, (28, 42))
    radius = rays[:2].norm(dim=0)
    assert (rays[2] == 1).all()
    # Barrel distortion shows more at the corners than a pinhole of the same focal length does.
    assert radius.max() > 1.15 * radius.max(dim=1).values.min()


def test_losses_are_zero_for_the_truth_and_know_a_factor_from_a_shape() -> None:
    truth = torch.rand(2, 12, 16, generator=torch.Generator().manual_seed(0)) * 4 + 1
    assert depth_loss(truth, truth) == pytest.approx(0.0, abs=1e-4)
    factor = (truth * 1.3).log() - truth.log()
    assert log_l1(factor).item() == pytest.approx(math.log(1.3), rel=1e-4)
    assert silog(factor).item() == pytest.approx(math.log(1.3) * math.sqrt(0.15), rel=1e-3)
    assert log_gradients(factor).item() == pytest.approx(0.0, abs=1e-5)
    bumpy = truth.log() * 0.1
    assert log_gradients(bumpy) > 0.01


def test_rates_rise_and_fall_over_all_stages_by_pixels() -> None:
    progress = [share for _, share in RECIPE.schedule()]
    assert len(progress) == RECIPE.steps == 5
    small, large = 2 * 28 * 42, 2 * 42 * 56
    total = 3 * small + 2 * large
    assert progress == pytest.approx([0, small / total, 2 * small / total, 3 * small / total, 1 - large / total])


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path) -> None:
    through, first = trainer(), trainer()
    list(through.run())
    steps = first.run()
    for _ in range(3):
        next(steps)
    first.save(tmp_path / "state.pt")
    second = trainer()
    second.resume(tmp_path / "state.pt")
    assert second.step == 3
    assert len(list(second.run())) == 2
    for name, weight in through.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], weight, rtol=1e-4, atol=1e-6)


def test_training_moves_every_weight_that_the_network_uses() -> None:
    trained = trainer()
    before = {name: weight.clone() for name, weight in trained.network.state_dict().items()}
    list(trained.run())
    still = {name for name, weight in trained.network.state_dict().items() if torch.equal(weight, before[name])}
    unused = {"pretrained.mask_token", *(name for name in before if "refinenet4.resConfUnit1" in name)}
    assert still == unused


def test_another_recipe_does_not_go_on_from_this_ones_state(tmp_path: Path) -> None:
    trainer().save(tmp_path / "state.pt")
    with pytest.raises(ValueError, match="belongs to another recipe"):
        trainer(Recipe(RECIPE.stages, seed=2)).resume(tmp_path / "state.pt")


@pytest.mark.slow
def test_the_command_writes_weights_that_load_and_says_how_good_they_are(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "--out", str(tmp_path), *QUICK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["steps"] == 1
    assert figures["scenes"] == 2
    assert 0 < figures["abs_rel"] < 10
    path = tmp_path / "depth_anything_v2_metric_synthetic_vitt.safetensors"
    assert DepthEstimator.load("vitt", "synthetic", path, device="cpu").sha256 == figures["sha256"]
    assert json.loads((tmp_path / "figures.json").read_text()) == figures


@pytest.mark.slow
def test_ctrl_c_saves_the_state_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "--out", str(tmp_path), *QUICK[2:]]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    seen = ""
    deadline_s = time.monotonic() + 90
    while "AbsRel" not in seen:  # the bar of the first step
        assert time.monotonic() < deadline_s
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues from there" in rest
    assert "Traceback" not in rest
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] >= 1
