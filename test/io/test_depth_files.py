"""Depth files of any origin: read within bounds, never unpickled, refused with the reason."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from depth_anything_ros.errors import InputError, SettingsError
from depth_anything_ros.io.depth_files import read_depth
from depth_anything_ros.io.formats import encode_npy, encode_png

DEPTH = np.arange(12, dtype=np.float32).reshape(3, 4)


def npy(header: str, data: bytes = b"") -> bytes:
    """An `.npy` file of version 1.0 with a header of its own."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def zipped(*members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, member in enumerate(members):
            archive.writestr(f"{index}.npy", member)
    return buffer.getvalue()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2"])
def test_metres_of_every_kind_and_order_are_read(tmp_path: Path, order: str, dtype: str) -> None:
    array = np.array(DEPTH, dtype=dtype, order="F" if order == "F" else "C")
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", array)
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(read_depth(tmp_path / name, 1000), DEPTH)
        np.testing.assert_array_equal(read_depth(tmp_path / name, None), DEPTH)


@pytest.mark.parametrize("dtype", ["<u2", ">i4", "|i1"])
def test_whole_numbers_are_levels_of_a_scale_that_has_to_be_given(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.array(DEPTH, dtype))
    np.savez_compressed(tmp_path / "a.npz", np.array(DEPTH, dtype))
    for name in ("a.npy", "a.npz"):
        np.testing.assert_allclose(read_depth(tmp_path / name, 10), np.where(DEPTH == 0, np.nan, DEPTH / 10))
        with pytest.raises(InputError, match="which may be millimetres"):
            read_depth(tmp_path / name, None)


def test_a_png_holds_levels_and_zero_is_no_value(tmp_path: Path) -> None:
    (tmp_path / "a.PNG").write_bytes(encode_png(np.array([[0, 256], [512, 65535]], np.uint16)))
    np.testing.assert_array_equal(read_depth(tmp_path / "a.PNG", 256), [[np.nan, 1], [2, np.float32(65535 / 256)]])
    with pytest.raises(SettingsError, match="levels per metre"):
        read_depth(tmp_path / "a.PNG", float("inf"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pgm", b"P5 1 1 255 1", "is not a depth file: depth is read from .npy, .npz and 16-bit .png"),
        ("a.npy", b"P5 1 1 255 1", "does not hold depth"),
        ("a.npy", b"", "does not hold depth"),
        ("a.npy", encode_npy(DEPTH)[:-1], "truncated"),
        (
            "a.npy",
            npy("{'descr': '<f8', 'fortran_order': False, 'shape': (100000, 100000), }"),
            "announces (100000, 100000) pixels",
        ),
        (
            "a.npy",
            npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 4), }", bytes(64)),
            "does not hold depth",
        ),
        (
            "a.npy",
            npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }", bytes(64)),
            "of numbers, got object of shape (1, 1)",
        ),
        ("a.npy", npy("[" * 5000), "does not hold depth"),
        (
            "a.npy",
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ", 1), }"),
            "not hold depth",
        ),
        ("a.npy", b"\x93NUMPY\x03\x00" + bytes(60), "header"),
        ("a.npz", zipped(encode_npy(DEPTH), encode_npy(DEPTH)), "2 arrays instead of one"),
        ("a.npz", zipped(), "0 arrays instead of one"),
        ("a.npz", zipped(encode_npy(DEPTH)[:-1]), "truncated"),
        ("a.npz", zipped(encode_npy(DEPTH))[:-30], "damaged"),
        ("a.npz", zipped(encode_npy(DEPTH)).replace(b"\x00\x00\x30\x41", b"\x00\x00\x30\x40"), "Bad CRC"),
        ("a.png", encode_png(np.zeros((2, 2), np.uint8)), "not a 16-bit grey PNG"),
        ("a.png", encode_png(np.ones((2, 2), np.uint16))[:-20], "does not hold depth"),
    ],
)
def test_what_is_no_depth_is_refused_with_the_reason(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_depth(tmp_path / name, 1000)
    said = str(refused.value)
    assert said.startswith(str(tmp_path / name))
    assert words in said
    assert "pickle" not in said
    assert len(said) < len(str(tmp_path)) + 300


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.npy")
    for name, words in (
        ("fifo.npy", "not a regular file"),
        ("none.npy", "No such file"),
        ("x" * 300 + ".npy", "too long"),
    ):
        with pytest.raises(InputError, match=words):
            read_depth(tmp_path / name, 1000)
