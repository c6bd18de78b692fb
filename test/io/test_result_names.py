"""Names of results: they stay in their folder, and no two inputs share one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_anything_ros.io.result_names import MAX_NAME_BYTES, ResultNames, is_safe_name, safe_name


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("photo 1 (ä)+b", "photo 1 (ä)+b"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        ("../../etc/x", "_.._etc_x"),
        ("a\\b:c", "a_b_c"),
        ("line\nbreak", "line_break"),
        (".hidden", "hidden"),
        ("bad\udcff", "bad_"),
        ("ä" * 300, "ä" * (MAX_NAME_BYTES // 2)),
    ],
)
def test_names_stay_in_their_folder(stem: str, name: str) -> None:
    assert safe_name(stem) == name
    assert is_safe_name(name)


def test_inputs_with_one_stem_get_different_names() -> None:
    names = ResultNames(["npy", "b"])
    assert [names.give(stem) for stem in ("a", "a", "A", "b", "a-2", "npy")] == [
        "a",
        "a-2",
        "A-3",
        "b-2",
        "a-2-2",
        "npy-2",
    ]


@given(st.lists(st.text(max_size=3)))
def test_no_name_is_given_twice_also_where_case_does_not_count(stems: list[str]) -> None:
    names = ResultNames()
    given_names = [names.give(stem).casefold() for stem in stems]
    assert len(set(given_names)) == len(stems)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/etc", "a\\b", "a\0b"])
def test_a_name_that_leads_elsewhere_is_not_safe(name: str) -> None:
    assert not is_safe_name(name)
