"""YAML from people and strangers: plain data, in bounds, with the line that is wrong."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.io.yaml_files import MAX_YAML_BYTES, read_yaml

# Seven levels of thirty: 30^6 values, if merge keys or aliases were followed.
BOMB = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 30)}]}}\n" for n in range(1, 8))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.yaml"


def test_plain_data_is_read(path: Path) -> None:
    path.write_text("\ufeffa: {b: [1, 2.5, true, ~, 2026-03-01]}\n'on': yes\n# the end\n", encoding="utf-8")
    assert read_yaml(path) == {"a": {"b": [1, 2.5, True, None, datetime.date(2026, 3, 1)]}, "on": True}
    path.write_text("")
    assert read_yaml(path) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BOMB, "line 2, column 15: an alias"),
        ("a: &x 1\nb: *x", "line 2, column 4: an alias"),
        ("a: 1\n<<: {b: 2}", "line 2, column 1: a merge key"),
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3", "line 5, column 3: 'c' is already in line 3"),
        ("1: 2", "line 1, column 1: a name must be text, got 1: put it in quotes"),
        ("on: 2", "got True: put it in quotes"),
        ("? [a]\n: 1", "a name must be text"),
        ("a: !!python/object/apply:os.system ['true']", "line 1, column 4: a tag"),
        ("a: !!map 3", "a tag"),
        ("[" * 5000, "nested more than 32 levels deep"),
        ("- " * 5000, "nested more than 32 levels deep"),
        ("a: [" + "1," * 60_000 + "1]", "more than 50000 values"),
        ("a: " + "1" * 5000, "line 1, column 4: a number with more than 100 characters"),
        ("a: " + "1:" * 5000 + "1", "a number with more than 100 characters"),
        ("a: 2026-13-45", "line 1, column 4: month must be in 1..12"),
        ("a: =", "line 1"),
        ("a: [1", "line 1"),
        ("a: 1\n---\nb: 1", "line 2"),
        ("a: \0", "not usable YAML"),
        (b"a: \xff", "byte 3 is not UTF-8"),
        ("#" * MAX_YAML_BYTES + "\n", f"has {MAX_YAML_BYTES + 1} bytes; at most {MAX_YAML_BYTES} are read"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:24],
)
def test_what_is_not_plain_data_is_refused_with_its_place(path: Path, content: str | bytes, words: str) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError) as refused:
        read_yaml(path)
    assert str(refused.value).startswith(str(path))
    assert words in str(refused.value)
    assert len(str(refused.value)) < len(str(path)) + 200


def test_only_regular_files_are_read(path: Path) -> None:
    os.mkfifo(path)
    link = path.with_name("link.yaml")
    link.symlink_to("/dev/zero")
    for odd in (path, link):
        with pytest.raises(SettingsError, match="not a regular file"):
            read_yaml(odd)
    for missing in (path.parent, path.with_name("none.yaml"), Path("a\0b"), Path("x" * 300)):
        with pytest.raises(SettingsError, match="cannot be read"):
            read_yaml(missing)
    link.unlink()
    link.symlink_to(path.with_name("target.yaml"))
    path.with_name("target.yaml").write_text("a: 1")
    assert read_yaml(link) == {"a": 1}
