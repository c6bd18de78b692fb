"""Train the demonstration model. The same command continues a run that was stopped."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from depth_anything_ros.io.formats import encode_png
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.checkpoint_reading import file_sha256
from depth_anything_ros.model.checkpoint_search import checkpoint_name
from depth_anything_ros.model.registry import dataset_spec
from depth_anything_ros.model.weights import DEMONSTRATION
from depth_anything_ros.synthetic.ray_caster import cast
from training.data import RenderedRooms
from training.trainer import Recipe, Stage, Trainer
from training.validation import FIRST_SEED, load, picture_grid, score

ENCODER, DATASET = DEMONSTRATION
STAGES = (Stage((112, 154), 80_000, 32), Stage((168, 224), 32_000, 32), Stage((224, 294), 12_000, 16))
SAVE_EVERY_S = 60.0
POS_EMBED_STD = 0.02
GRID_ROWS = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Train, or resume; write weights, SHA-256 and figures. Ctrl-C saves the state and returns 130."""
    args = build_parser().parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    trainer, state = make_trainer(args), args.out / "state.pt"
    if state.is_file():
        trainer.resume(state)
        print(f"continuing at step {trainer.step}", file=sys.stderr)
    try:
        train(trainer, state)
    except KeyboardInterrupt:
        trainer.save(state)
        print(f"stopped at step {trainer.step}; the same command continues from there", file=sys.stderr)
        return 130
    trainer.save(state)
    print(json.dumps(write_down(trainer, args.out, args.validation_scenes)))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the state, the weights and the figures")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="default: %(default)s")
    parser.add_argument("--frames", type=float, default=1.0, help="this share of all pictures, default: all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    parser.add_argument("--no-compile", action="store_true", help="cast rays without torch.compile, four times slower")
    parser.add_argument("--validation-scenes", type=int, default=200, help="default: %(default)s")
    return parser


def make_trainer(args: argparse.Namespace) -> Trainer:
    """Build the network, its weights drawn from the seed, and its trainer."""
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    network = build_model(ENCODER, "synthetic")
    nn.init.trunc_normal_(network.pretrained.pos_embed, std=POS_EMBED_STD)
    nn.init.trunc_normal_(network.pretrained.cls_token, std=POS_EMBED_STD)
    stages = tuple(Stage(stage.size, int(stage.frames * args.frames), stage.batch) for stage in STAGES)
    caster = cast if args.no_compile else torch.compile(cast, dynamic=False)
    data = RenderedRooms(args.seed, device, caster)
    return Trainer(network.to(device), Recipe(stages, seed=args.seed), data, dataset_spec(DATASET).max_depth_m)


def train(trainer: Trainer, state: Path) -> None:
    """Run the remaining steps with a progress bar, and save the state regularly."""
    bar = tqdm(total=trainer.recipe.steps, initial=trainer.step, unit="step", mininterval=1.0)
    saved_s, mean = time.monotonic(), 0.0
    with bar:
        for error in trainer.run():
            mean = error if mean == 0.0 else 0.98 * mean + 0.02 * error
            bar.set_postfix(AbsRel=f"{mean:.4f}", refresh=False)
            bar.update()
            if time.monotonic() - saved_s > SAVE_EVERY_S:
                trainer.save(state)
                saved_s = time.monotonic()


def write_down(trainer: Trainer, out: Path, scenes: int) -> dict[str, object]:
    """Write the weights as float16 safetensors, and their figures on scenes never trained on."""
    path = out / Path(checkpoint_name(ENCODER, DATASET)).with_suffix(".safetensors")
    weights = {name: tensor.half().cpu().contiguous() for name, tensor in trainer.network.state_dict().items()}
    save_file(weights, path, metadata={"recipe": repr(trainer.recipe), "torch": torch.__version__})
    estimator = load(path)
    mean = score(estimator, FIRST_SEED, scenes)
    figures = {
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "seed": trainer.recipe.seed,
        "steps": trainer.step,
        "seconds": round(trainer.seconds),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "scenes": scenes,
        "abs_rel": mean.abs_rel,
        "rmse_m": mean.rmse,
        "delta1": mean.delta1,
    }
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (out / "grid.png").write_bytes(encode_png(picture_grid(estimator, FIRST_SEED, GRID_ROWS)))
    return figures


if __name__ == "__main__":
    sys.exit(main())
