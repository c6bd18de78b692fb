"""Files that appear whole or not at all, and that write into nothing else."""

from __future__ import annotations

import errno
import secrets
from pathlib import Path

import pytest

from depth_anything_ros.errors import CannotWrite
from depth_anything_ros.io.whole_files import locked, write_file


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new/x.npy"

    with pytest.raises(KeyboardInterrupt):
        write_file(path, _half)
    assert files_in(tmp_path) == []
    write_file(path, lambda temporary: temporary.write_text("whole"))
    with pytest.raises(KeyboardInterrupt):
        write_file(path, _half)
    assert path.read_text() == "whole"
    assert files_in(tmp_path) == [path]


def _half(temporary: Path) -> None:
    temporary.write_text("ha")
    raise KeyboardInterrupt


def test_a_link_in_place_of_the_file_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    target, path = tmp_path / "precious", tmp_path / "x.npy"
    target.write_text("mine")
    path.symlink_to(target)
    write_file(path, lambda temporary: temporary.write_text("new"))
    assert (target.read_text(), path.read_text(), path.is_symlink()) == ("mine", "new", False)


def test_a_link_in_place_of_the_unfinished_file_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    monkeypatch.setattr(secrets, "token_hex", lambda count: "known")
    for link, content in (("existing", "mine"), ("dangling", None)):
        (tmp_path / ".part-known.npy").unlink(missing_ok=True)
        (tmp_path / ".part-known.npy").symlink_to(target if content else tmp_path / "nowhere")
        with pytest.raises(CannotWrite, match=r"x\.npy cannot be written: File exists"):
            write_file(tmp_path / "x.npy", lambda temporary: temporary.write_text("new"))
        assert target.read_text() == "mine", link
    assert not (tmp_path / "nowhere").exists()


def test_names_of_unfinished_files_cannot_be_foreseen(tmp_path: Path) -> None:
    seen: list[Path] = []
    for _ in range(2):
        write_file(tmp_path / "x.npy", seen.append)
    assert len(set(seen)) == 2
    assert all(path.parent == tmp_path and path.name.startswith(".part-") and path.suffix == ".npy" for path in seen)


def test_a_file_with_the_longest_name_is_written(tmp_path: Path) -> None:
    for name in ("x" * 251 + ".npy", "x." + "y" * 253):
        write_file(tmp_path / name, lambda temporary: temporary.write_text("whole"))
        assert (tmp_path / name).read_text() == "whole"


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("x", OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        ("x", OSError("7 requested and 0 written"), "7 requested and 0 written"),
        ("x" * 256, None, "File name too long"),
        ("a\0b", None, "embedded null byte"),
    ],
)
def test_the_reason_is_said(tmp_path: Path, name: str, error: OSError | None, reason: str) -> None:
    def produce(temporary: Path) -> None:
        if error is not None:
            raise error

    with pytest.raises(CannotWrite, match=f"cannot be written: {reason}"):
        write_file(tmp_path / name, produce)
    assert files_in(tmp_path) == []


def test_a_file_where_the_folder_has_to_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(CannotWrite, match=r"/out is a file, not a folder$"):
        write_file(tmp_path / "out" / "x.npy", lambda temporary: temporary.write_text("new"))
    with pytest.raises(CannotWrite, match=r"/out is a file, not a folder$"), locked(tmp_path / "out"):
        pytest.fail("it was locked")
    assert (tmp_path / "out").read_text() == "mine"
