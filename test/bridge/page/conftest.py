"""Chromium, driven by Playwright, and a page that may not do what pages of the bridge never do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import pytest
from browsing import Watched, chromium, find_chromium
from running_bridge import RunningBridge, start

from depth_anything_ros.synthetic.camera import SyntheticCamera


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    pytest.importorskip("playwright")
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with chromium(program) as launched:
        yield launched


@contextmanager
def watching(browser: Any) -> Iterator[Callable[..., Watched]]:
    """Open pages: `watched(url, **options of the context)`. In the end, none of them may have done any wrong."""
    opened: list[Watched] = []

    def begin(url: str, **options: Any) -> Watched:
        opened.append(Watched(browser, url, options))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()
    for each in opened:
        each.check()


@pytest.fixture
def watched(browser: Any) -> Iterator[Callable[..., Watched]]:
    """Open pages for one test."""
    with watching(browser) as begin:
        yield begin


@pytest.fixture(scope="module")
def shown(browser: Any, rooms: RunningBridge, room: Path) -> Iterator[Watched]:
    """The page with the depth of the room, for tests one after the other."""
    with watching(browser) as begin:
        page = begin(f"{rooms.url}/", permissions=["camera"])
        page.expected.append("422")
        page.upload(room)
        yield page


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """A bridge with the demonstration model, which knows rendered rooms."""
    options = ("--default-encoder=vitt", "--default-dataset=synthetic", "--port=0", "--backend=torch")
    running = start(tmp_path_factory.mktemp("rooms") / "log", *options)
    yield running
    assert running.end() == 0


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG of a rendered room, 320 x 240 pixels."""
    path = tmp_path_factory.mktemp("room") / "room.png"
    cv2.imwrite(str(path), SyntheticCamera(seed=7, width=320, height=240).frame().image_bgr)
    return path


@pytest.fixture(scope="module")
def asked(rooms: RunningBridge, room: Path) -> Callable[[str, str], httpx.Response]:
    """What the server itself answers: `asked(path, media type)`."""

    def ask(path: str, accept: str) -> httpx.Response:
        headers = {"Accept": accept, "Content-Type": "image/png"}
        return httpx.post(f"{rooms.url}/{path}", content=room.read_bytes(), headers=headers, timeout=60)

    return ask
