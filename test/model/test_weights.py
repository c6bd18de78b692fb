"""Checkpoints are loaded safely and strictly, and every wrong file says what is wrong."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import logging
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from stand_in import Weights, save_hf, save_official, stand_in_image, stand_in_weights

from depth_anything_ros.errors import CheckpointInvalid, CheckpointMismatch, CheckpointNotFound, SettingsError
from depth_anything_ros.model import checkpoint_reading, weights
from depth_anything_ros.model.checkpoint_reading import read_state_dict
from depth_anything_ros.model.weights import UNTRAINED, load_model


def load(path: Path, encoder: str = "toy", dataset: str = "hypersim") -> Weights:
    return load_model(encoder, dataset, path).network.state_dict()


def assert_same(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


# ---- sound files, in every form they come in


@pytest.fixture(params=["pth", "legacy pth", "safetensors", "hf folder", "hf file", "wrapped", "data parallel"])
def sound(request: pytest.FixtureRequest, tmp_path: Path, toy_weights: Weights) -> Path:
    """A toy checkpoint in one of its forms."""
    path = tmp_path / "checkpoint.pth"
    match request.param:
        case "pth":
            torch.save(toy_weights, path)
        case "legacy pth":
            torch.save(toy_weights, path, _use_new_zipfile_serialization=False)
        case "safetensors":
            path = tmp_path / "checkpoint.safetensors"
            save_file(toy_weights, path)
        case "hf folder":
            path = save_hf(toy_weights, "toy", "metric", tmp_path / "hf")
        case "hf file":
            path = save_hf(toy_weights, "toy", "metric", tmp_path / "hf") / "model.safetensors"
        case "wrapped":
            torch.save({"model": toy_weights, "epoch": 3, "optimizer": {"lr": 1e-3}}, path)
        case "data parallel":
            torch.save({"state_dict": {f"module.{name}": t for name, t in toy_weights.items()}}, path)
    return path


def test_every_form_of_a_checkpoint_loads_to_the_same_weights(sound: Path, toy_weights: Weights) -> None:
    assert_same(load(sound), toy_weights)


def test_loaded_network_is_frozen_float32_on_the_cpu(sound: Path) -> None:
    network = load_model("toy", "hypersim", sound).network
    assert not network.training
    for parameter in network.parameters():
        assert not parameter.requires_grad
        assert parameter.dtype == torch.float32
        assert parameter.device.type == "cpu"


def test_half_precision_checkpoint_loads_as_float32(tmp_path: Path, toy_weights: Weights) -> None:
    path = save_official({name: tensor.half() for name, tensor in toy_weights.items()}, tmp_path / "half.pth")
    assert_same(load(path), {name: tensor.half().float() for name, tensor in toy_weights.items()})


def test_sha256_and_source_of_what_was_loaded_are_kept_and_logged(
    toy_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = hashlib.sha256(toy_checkpoint.read_bytes()).hexdigest()
    with caplog.at_level(logging.INFO, logger="depth_anything_ros"):
        loaded = load_model("toy", "hypersim", toy_checkpoint)
    assert (loaded.sha256, loaded.source) == (expected, str(toy_checkpoint))
    assert expected in caplog.text


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_weights_stay_when_the_file_is_overwritten(tmp_path: Path, toy_weights: Weights, form: str) -> None:
    path = save_as(form, toy_weights, tmp_path / "checkpoint.bin")
    network = load_model("toy", "hypersim", path).network
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert_same(network.state_dict(), toy_weights)
    os.truncate(path, 10)  # weights that were still mapped would end the process here
    assert_same(network.state_dict(), toy_weights)


def test_untrained_weights_are_the_same_every_time_and_say_what_they_are(caplog: pytest.LogCaptureFixture) -> None:
    first, second = load_model("toy", "hypersim", UNTRAINED), load_model("toy", "relative", UNTRAINED)
    assert_same(first.network.state_dict(), second.network.state_dict())
    assert (first.source, first.sha256) == (UNTRAINED, "")
    assert "random weights" in caplog.text
    assert all(torch.isfinite(parameter).all() for parameter in first.network.parameters())


# ---- files that are no checkpoints


class _Bomb:
    """Unpickling it would create a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


def _zip_with(pickled: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


@pytest.mark.parametrize("form", ["pickle", "zip", "torch", "inside a checkpoint"])
def test_code_in_a_pickle_is_refused_and_never_runs(form: str, tmp_path: Path, toy_weights: Weights) -> None:
    mark, path = tmp_path / "the_code_ran", tmp_path / "evil.pth"
    match form:
        case "pickle":
            path.write_bytes(pickle.dumps(_Bomb(mark)))
        case "zip":
            _zip_with(pickle.dumps(_Bomb(mark), protocol=2), path)
        case "torch":
            torch.save(_Bomb(mark), path)
        case "inside a checkpoint":
            torch.save({**toy_weights, "extra": _Bomb(mark)}, path)
    with pytest.raises(CheckpointInvalid, match=r"evil\.pth"):
        load(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(_Bomb(mark)))
    assert mark.exists(), "the code does nothing, so that it did nothing proves nothing"


def _not_checkpoints() -> dict[str, bytes]:
    picture = stand_in_image(16, 16, seed=1)
    return {
        "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 99\n",
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "empty": b"",
        "one byte": b"x",
        "image": cv2.imencode(".png", picture)[1].tobytes(),
        "jpeg": cv2.imencode(".jpg", picture)[1].tobytes(),
        "json": json.dumps({"model": "vits", "weights": [1, 2, 3]}).encode(),
        "random bytes": np.random.default_rng(0).bytes(5000),
        "zip magic alone": b"PK\x03\x04",
        "pickled text": pickle.dumps("weights"),
        "brace in the ninth place": b"01234567{" + b"y" * 50,
    }


@pytest.mark.parametrize(("content"), _not_checkpoints().values(), ids=_not_checkpoints())
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_no_checkpoint_is_refused_and_named(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"strange{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointInvalid, match="strange") as refusal:
        load(path)
    assert "is not a checkpoint" in str(refusal.value) or "truncated or damaged" in str(refusal.value)


@pytest.mark.parametrize(("name", "kind"), [("text", "Git LFS pointer"), ("html", "web page"), ("empty", "empty")])
def test_what_a_download_leaves_in_place_of_weights_is_named(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(_not_checkpoints()[name])
    with pytest.raises(CheckpointInvalid, match=kind):
        load(path)


@pytest.mark.parametrize("content", [[torch.zeros(2)], {}, {"model": {}}, {"a": 1}, torch.zeros(3), {"a": [1.0]}])
def test_a_file_without_named_tensors_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointInvalid, match="does not hold named tensors"):
        load(tmp_path / "odd.pth")


def test_an_ordinary_zip_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.pth", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(CheckpointInvalid, match=r"photos\.pth"):
        load(tmp_path / "photos.pth")


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="needs a file that cannot be read, even by root")
def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(CheckpointInvalid, match="/proc/self/mem cannot be read: "):
        load(Path("/proc/self/mem"))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_at_all_give_a_checkpoint_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bytes.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointInvalid):
        read_state_dict(path)


# ---- files that look sound, and are not


def rezip(path: Path, compression: int, pickled: bytes | None = None) -> None:
    """Write a checkpoint's members anew, in another compression or with another pickle."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in members.items():
            new.writestr(name, pickled if pickled is not None and name.endswith("data.pkl") else content)


def test_a_compressed_checkpoint_is_refused_and_stored_again_it_loads(tmp_path: Path, toy_weights: Weights) -> None:
    path = save_official(toy_weights, tmp_path / "smaller.pth")
    rezip(path, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointInvalid, match=r"smaller\.pth has a compressed member"):
        load(path)
    rezip(path, zipfile.ZIP_STORED)
    with pytest.raises(CheckpointInvalid, match="repeat"):
        load(duplicated(path))


def duplicated(path: Path) -> Path:
    """Add a member under a name that is there already."""
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(next(name for name in archive.namelist() if name.endswith("data/0")), b"")
    return path


def test_one_flipped_byte_anywhere_in_a_zip_checkpoint_is_found(tmp_path: Path, toy_weights: Weights) -> None:
    path = save_official(toy_weights, tmp_path / "flipped.pth")
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = itertools.pairwise(archive.infolist())
        positions = [after.header_offset - 60 for member, after in members if member.file_size > 100]
    for position in positions[:: len(positions) // 8]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(CheckpointInvalid, match=r"flipped\.pth is truncated or damaged: Bad CRC-32"):
            load(path)


def test_members_that_overlap_are_refused(tmp_path: Path, toy_weights: Weights) -> None:
    path = save_official(toy_weights, tmp_path / "overlapping.pth")
    whole = bytearray(path.read_bytes())
    second = whole.find(b"PK\x01\x02", whole.find(b"PK\x01\x02") + 1)  # its entry in the directory
    whole[second + 42 : second + 46] = (0).to_bytes(4, "little")  # lies where the first one does
    path.write_bytes(whole)
    with pytest.raises(CheckpointInvalid, match=r"overlapping\.pth"):
        load(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_may_not_ask_for_memory(legacy: bool, tmp_path: Path, toy_weights: Weights) -> None:
    class Large:
        def __reduce__(self) -> tuple[Any, ...]:
            return (bytearray, (2**40,))

    path = tmp_path / "large.pth"
    torch.save({**toy_weights, "extra": Large()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointInvalid, match=r"it calls '(__builtin__|builtins)\.bytearray'; it is not loaded"):
        load(path)


def test_sizes_are_judged_before_anything_is_read(tmp_path: Path, toy_weights: Weights) -> None:
    path = save_official(toy_weights, tmp_path / "bomb.pth")
    rezip(path, zipfile.ZIP_STORED, pickled=b"\x80\x02" + b"}" * (4 << 20) + b".")
    with pytest.raises(CheckpointInvalid, match=r"bomb\.pth has a pickle of 4194307 bytes"):
        load(path)
    path.write_bytes(legacy_start(toy_weights) + b"\x80\x02" + b"}" * (4 << 20))
    with pytest.raises(CheckpointInvalid, match=r"bomb\.pth has a pickle of 4194304 bytes or more"):
        load(path)
    sparse = tmp_path / "sparse.safetensors"
    for start in (b"PK", (2).to_bytes(8, "little") + b"{}", (90 << 20).to_bytes(8, "little") + b"{"):
        sparse.write_bytes(start)
        os.truncate(sparse, 1 << 40)
        with pytest.raises(CheckpointInvalid, match=r"has 1099511627776 bytes, and at most"):
            load(sparse)
    os.truncate(sparse, 100 << 20)
    with pytest.raises(CheckpointInvalid, match=r"sparse\.safetensors has a header of 94371840 bytes"):
        load(sparse)


def legacy_start(weights: Weights) -> bytes:
    """The first pickle of the format from before torch 1.6: its magic number."""
    file = io.BytesIO()
    torch.save(weights, file, _use_new_zipfile_serialization=False)
    return file.getvalue()[: file.getvalue().index(b".") + 1]


@pytest.mark.parametrize("special", ["fifo", "folder", "long name", "nul", "loop", "unknown user"])
def test_what_is_no_regular_file_is_told_in_one_line(special: str, tmp_path: Path) -> None:
    path = str(tmp_path / "special")
    match special:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            (tmp_path / "special/model.safetensors").mkdir(parents=True)
        case "long name":
            path = str(tmp_path / ("x" * 300))
        case "nul":
            path += "\0.pth"
        case "loop":
            (tmp_path / "special").symlink_to("special")
        case "unknown user":
            path = "~nobody-of-this-name/x.pth"
    with pytest.raises((CheckpointInvalid, CheckpointNotFound)) as refusal:
        load_model("toy", "hypersim", path)
    assert "\n" not in str(refusal.value)
    assert "\0" not in str(refusal.value)


BIAS = "depth_head.scratch.output_conv2.2.bias"


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_weights_that_are_not_finite_are_refused_by_name(
    form: str, value: float, tmp_path: Path, toy_weights: Weights
) -> None:
    path = save_as(form, {**toy_weights, BIAS: torch.tensor([value])}, tmp_path / "nan.bin")
    with pytest.raises(CheckpointInvalid, match=f"tensor '{BIAS}' holds NaN or infinity"):
        load(path)


@pytest.mark.parametrize("scale", [0.0, 1e38])
def test_weights_that_give_no_depth_are_refused(scale: float, tmp_path: Path, toy_weights: Weights) -> None:
    name = "depth_head.scratch.output_conv2.2.weight"
    path = save_official({**toy_weights, name: toy_weights[name] * scale}, tmp_path / "flat.pth")
    with pytest.raises(CheckpointInvalid, match=r"flat\.pth is damaged: its weights give the same depth"):
        load(path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.int64, torch.float8_e4m3fn])
def test_weights_of_another_kind_of_number_are_refused_by_name(
    dtype: torch.dtype, tmp_path: Path, toy_weights: Weights
) -> None:
    path = save_official({**toy_weights, BIAS: toy_weights[BIAS].to(dtype)}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointInvalid, match=f"tensor '{BIAS}' is {str(dtype)[6:]}; allowed: float16"):
        load(path)


@pytest.mark.filterwarnings("ignore")  # torch: quantised tensors and their storages are deprecated
@pytest.mark.parametrize("kind", ["sparse", "quantised", "meta", "nested"])
def test_tensors_that_are_not_dense_are_refused_by_name(kind: str, tmp_path: Path, toy_weights: Weights) -> None:
    name = "pretrained.cls_token"
    tensor = toy_weights[name]
    makers: dict[str, Callable[[], torch.Tensor]] = {
        "sparse": tensor.to_sparse,
        "quantised": lambda: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        "meta": lambda: tensor.to("meta"),
        "nested": lambda: torch.nested.nested_tensor([tensor]),
    }
    odd = makers[kind]()
    path = save_official({**toy_weights, name: odd}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointInvalid, match=f"tensor '{name}' is sparse, quantised, nested or without values"):
        load(path)


def test_one_tensor_under_two_names_is_refused(tmp_path: Path, toy_weights: Weights) -> None:
    path = save_official({**toy_weights, f"module.{BIAS}": torch.zeros(1)}, tmp_path / "twice.pth")
    with pytest.raises(CheckpointInvalid, match=f"holds tensor '{BIAS}' twice"):
        load(path)
    path = save_hf(toy_weights, "toy", "metric", tmp_path / "hf") / "model.safetensors"
    save_file({**read_safetensors(path), BIAS: torch.zeros(1)}, path)
    with pytest.raises(CheckpointInvalid, match=f"holds tensor '{BIAS}' twice"):
        load(path)


# ---- truncated files


def save_as(form: str, weights: Weights, path: Path) -> Path:
    if form == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=form == "pth")
    return path


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("form", ["pth", "legacy", "safetensors"])
def test_truncated_checkpoint_is_refused_and_named(
    form: str, kept: float, tmp_path: Path, toy_weights: Weights
) -> None:
    path = save_as(form, toy_weights, tmp_path / "half.bin")
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(CheckpointInvalid, match=r"half\.bin is truncated or damaged"):
        load(path)


def test_a_truncated_checkpoint_is_told_alike_whatever_torch_calls_it(
    tmp_path: Path, toy_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older_load(*_: object, **__: object) -> None:
        raise pickle.UnpicklingError("Weights only load failed. unexpected EOF")

    path = save_as("legacy", toy_weights, tmp_path / "half.bin")
    os.truncate(path, path.stat().st_size // 2)
    monkeypatch.setattr(torch, "load", older_load)
    with pytest.raises(CheckpointInvalid, match=r"half\.bin is truncated or damaged"):
        load(path)


@pytest.mark.parametrize("cut", [1, 20, 200])
@pytest.mark.parametrize("form", ["pth", "legacy", "safetensors"])
def test_a_checkpoints_first_or_missing_last_bytes_are_refused(
    form: str, cut: int, tmp_path: Path, toy_weights: Weights
) -> None:
    path = save_as(form, toy_weights, tmp_path / "nearly.bin")
    whole = path.read_bytes()
    for content in (whole[:cut], whole[:-cut]):
        path.write_bytes(content)
        with pytest.raises(CheckpointInvalid, match=r"nearly\.bin"):
            load(path)


# ---- sound files of something else


def test_another_encoders_checkpoint_is_named(tmp_path: Path) -> None:
    path = save_official(stand_in_weights("vits"), tmp_path / "checkpoint.pth")
    for encoder in ("vitb", "vitl", "toy"):
        with pytest.raises(CheckpointMismatch, match=f"holds vits weights, but encoder '{encoder}' was asked for"):
            load(path, encoder)


def test_unknown_names_missing_names_and_other_shapes_are_counted(tmp_path: Path, toy_weights: Weights) -> None:
    changed = dict(toy_weights)
    changed["pretrained.cls_token"] = torch.zeros(1, 1, 7)
    changed["pretrained.stranger"] = changed.pop("pretrained.mask_token")
    path = save_official(changed, tmp_path / "other.pth")
    with pytest.raises(CheckpointMismatch) as refusal:
        load(path)
    text = str(refusal.value)
    assert "1 tensors missing ['pretrained.mask_token']" in text
    assert "1 unexpected ['pretrained.stranger']" in text
    assert "1 of another shape ['pretrained.cls_token']" in text


@pytest.mark.parametrize("lost", ["key", "query", "value"])
def test_hf_checkpoint_without_a_part_of_the_attention_is_refused(
    lost: str, tmp_path: Path, toy_weights: Weights
) -> None:
    path = save_hf(toy_weights, "toy", "metric", tmp_path / "hf") / "model.safetensors"
    tensors = read_safetensors(path)
    del tensors[f"backbone.encoder.layer.1.attention.attention.{lost}.weight"]
    save_file(tensors, path)
    with pytest.raises(CheckpointMismatch, match=r"pretrained\.blocks\.1\.attn\.qkv\.weight"):
        load(path)


def test_hf_checkpoint_with_a_stranger_is_refused_under_its_own_name(tmp_path: Path, toy_weights: Weights) -> None:
    path = save_hf(toy_weights, "toy", "metric", tmp_path / "hf") / "model.safetensors"
    save_file({**read_safetensors(path), "backbone.registers": torch.zeros(4)}, path)
    with pytest.raises(CheckpointMismatch, match=r"backbone\.registers"):
        load(path)


def read_safetensors(path: Path) -> Weights:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - it is no mapping


@pytest.mark.parametrize(
    ("name", "dataset", "said"),
    [
        ("depth_anything_v2_vits.pth", "hypersim", "relative"),
        ("depth_anything_v2_vitb.safetensors", "vkitti", "relative"),
        ("depth_anything_v2_metric_hypersim_vits.pth", "relative", "hypersim"),
        ("depth_anything_v2_metric_vkitti_vitl.pth", "relative", "vkitti"),
        ("depth_anything_v2_metric_vkitti_vits.pth", "hypersim", "vkitti"),
        ("depth_anything_v2_metric_hypersim_vitb.safetensors", "vkitti", "hypersim"),
    ],
)
def test_another_datasets_weights_are_told_by_the_official_name(
    name: str, dataset: str, said: str, tmp_path: Path, toy_weights: Weights
) -> None:
    path = save_official(toy_weights, tmp_path / name)
    with pytest.raises(CheckpointMismatch, match=f"holds {said} weights, but dataset '{dataset}' was asked for"):
        load(path, "toy", dataset)


@pytest.mark.parametrize("kind", ["metric", "relative", "unsaid"])
def test_the_kind_of_depth_is_told_by_config_json(kind: str, tmp_path: Path, toy_weights: Weights) -> None:
    folder = save_hf(toy_weights, "toy", "relative" if kind == "unsaid" else kind, tmp_path / "hf")
    if kind == "unsaid":  # as the Hub's relative repositories, which are older than the choice
        config = json.loads((folder / "config.json").read_text())
        del config["depth_estimation_type"]
        (folder / "config.json").write_text(json.dumps(config))
    right, wrong = ("hypersim", "relative") if kind == "metric" else ("relative", "vkitti")
    assert_same(load(folder, "toy", right), toy_weights)
    with pytest.raises(CheckpointMismatch, match=f"but dataset '{wrong}' was asked for"):
        load(folder, "toy", wrong)


def test_metric_datasets_are_told_apart_by_the_max_depth_in_config_json(tmp_path: Path, toy_weights: Weights) -> None:
    folder = save_hf(toy_weights, "toy", "metric", tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_depth": 80}))
    assert_same(load(folder, "toy", "vkitti"), toy_weights)
    with pytest.raises(CheckpointMismatch, match="holds vkitti weights, but dataset 'hypersim' was asked for"):
        load(folder, "toy", "hypersim")


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, toy_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_official(toy_weights, tmp_path / "mine.pth")
    digest_of = checkpoint_reading.file_sha256

    def digest_then_touch(file: Path) -> str:
        digest = digest_of(file)
        os.utime(file, (1, 1))
        return digest

    monkeypatch.setattr(weights, "file_sha256", digest_then_touch)
    with pytest.raises(CheckpointInvalid, match=r"mine\.pth changed while it was read"):
        load(path)


@pytest.mark.parametrize(
    ("content", "is_told"),
    [
        (None, False),
        (b'{"model_type": "bert"}', False),
        (b"", True),
        (b"[]", True),
        (b"{", True),
        (b"\x89PNG\xff\xfe", True),
        (b"[" * 100_000, True),
        (b'{"model_type": ' + b"9" * 5000 + b"}", True),
        (b" " * (1 << 20) + b"{}", True),
    ],
    ids=["none", "another model", "empty", "list", "cut", "binary", "deep", "long number", "large"],
)
def test_a_config_that_says_nothing_forbids_nothing_and_one_that_cannot_be_read_is_told(
    content: bytes | None, is_told: bool, tmp_path: Path, toy_weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_hf(toy_weights, "toy", "relative", tmp_path / "hf")
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_bytes(content)
    assert_same(load(folder), toy_weights)
    assert ("config.json is ignored" in caplog.text) == is_told


def test_a_config_that_is_no_regular_file_is_told_without_waiting_for_it(
    tmp_path: Path, toy_weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_hf(toy_weights, "toy", "relative", tmp_path / "hf")
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert_same(load(folder), toy_weights)
    assert "not a regular file" in caplog.text


@pytest.mark.parametrize("max_depth", [[20], {"m": 20}, "20", None])
def test_a_config_with_a_byte_order_mark_and_a_strange_max_depth_still_says_metric(
    max_depth: object, tmp_path: Path, toy_weights: Weights
) -> None:
    folder = save_hf(toy_weights, "toy", "metric", tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_depth": max_depth}), encoding="utf-8-sig")
    assert_same(load(folder), toy_weights)
    with pytest.raises(CheckpointMismatch, match="holds metric weights, but dataset 'relative' was asked for"):
        load(folder, "toy", "relative")


def test_a_file_of_no_official_name_may_be_either_kind(tmp_path: Path, toy_weights: Weights) -> None:
    for name in ("my_finetune.pth", "depth_anything_v2_finetuned_metric_warehouse_vits.pth"):
        path = save_official(toy_weights, tmp_path / name)
        assert_same(load(path, "toy", "relative"), toy_weights)
    assert_same(load(path, "toy", "vkitti"), toy_weights)


@pytest.mark.parametrize(("encoder", "dataset"), [("vitx", "hypersim"), ("vits", "kitti"), ("../x", "relative")])
def test_unknown_names_are_refused_with_those_there_are(encoder: str, dataset: str) -> None:
    with pytest.raises(SettingsError, match="known: "):
        load_model(encoder, dataset, UNTRAINED)
