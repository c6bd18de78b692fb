"""The page's second tab in a real browser, on the real chain: camera, node and bridge of `python -m demo --page`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsing import SCREENSHOTS_VARIABLE, Watched, keep_screenshot
from running_bridge import RunningBridge, eventually

pytest.importorskip("rclpy")

Open = Callable[..., Watched]
REPOSITORY = Path(__file__).parents[3]
TOY = ("--encoder", "toy", "--input-size", "112")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo that keeps running; gives the page's address. Ctrl-C ends it."""
    model = () if SCREENSHOTS_VARIABLE in os.environ else TOY
    command = [
        sys.executable,
        "-m",
        "demo",
        "--page",
        "--port",
        "0",
        "--out",
        str(tmp_path_factory.mktemp("demo")),
        *model,
    ]
    environment = {name: value for name, value in os.environ.items() if name not in ("ROS_DOMAIN_ID", "DISPLAY")}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        address = next((found[0] for line in process.stdout if (found := re.search(r"http://[\d.:]+/", line))), None)
        assert address, process.communicate()[1]
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors


def streams(url: str) -> int:
    """How many clients look at the demo's camera, as the server counts them."""
    [camera] = httpx.get(f"{url}cameras").json()["cameras"]
    return int(camera["streams"])


def frames(page: Watched) -> int:
    text = page.find("#robot dd.frames").inner_text()
    return int(text.partition(",")[0]) if "," in text else 0


def start(page: Watched) -> None:
    page.find("#robot .cameras button").wait_for(timeout=30_000)
    page.page.get_by_role("button", name="Start").click()
    page.find("#robot .has-depth").wait_for(timeout=60_000)


def test_a_camera_is_shown_live_and_its_frames_are_counted(demo: str, watched: Open) -> None:
    page = watched(f"{demo}#robot")
    start(page)
    first = frames(page)
    drawn = page.find("#robot canvas.points")
    drawn_before = int(drawn.get_attribute("data-drawn"))
    eventually(lambda: frames(page) >= first + 3, timeout_s=60)
    eventually(lambda: int(drawn.get_attribute("data-drawn")) >= drawn_before + 3)  # the browser paints later
    assert page.find("#robot .health").inner_text() == "active"
    for fact, form in {"images": r"\d+\.\d Hz", "depth": r"\d+\.\d Hz", "age": r"\d+ ms", "size": "640 × 480"}.items():
        page.find("#robot dd").and_(page.find(f".{fact}")).filter(has_text=re.compile(f"^{form}$")).wait_for()
    page.find("#robot .stage").hover(position={"x": 100, "y": 100})
    assert re.fullmatch(r"\d+\.\d{3} m at \d+, \d+", page.find("#robot .readout").inner_text())
    assert page.find("#robot .notice").is_hidden()
    page.find("#robot select.rate").select_option("1")  # so that the cloud rests between two frames
    for scheme in ("light", "dark"):
        page.page.emulate_media(color_scheme=scheme)
        eventually(lambda: frames(page) > 2, timeout_s=60)
        page.find("#robot canvas.points[data-state=resting]").wait_for()
        keep_screenshot(page, f"page_robot_{scheme}")


def test_nothing_is_streamed_while_nobody_looks(demo: str, watched: Open) -> None:
    page = watched(f"{demo}#robot")
    page.find("#robot .cameras button").wait_for(timeout=30_000)
    assert streams(demo) == 0  # a list of cameras costs the robot nothing
    start(page)
    assert streams(demo) == 2  # depth, and the pictures it was made from
    page.find("#tab-picture").click()
    eventually(lambda: streams(demo) == 0)
    page.find("#tab-robot").click()
    eventually(lambda: streams(demo) == 2)
    page.page.evaluate("""() => {
        Object.defineProperty(document, "hidden", {get: () => true, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    eventually(lambda: streams(demo) == 0)
    page.page.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")
    eventually(lambda: streams(demo) == 2)
    page.page.get_by_role("button", name="Stop").click()
    eventually(lambda: streams(demo) == 0)
    assert page.page.get_by_role("button", name="Start").is_visible()


def test_a_bridge_without_a_robot_says_so(running_bridge: RunningBridge, watched: Open) -> None:
    page = watched(f"{running_bridge.url}/#robot")
    words = page.find("#robot").get_by_text("start it with --ros")
    words.wait_for()
    assert page.find("#robot .live").is_hidden()


def test_every_control_of_this_tab_has_a_name(demo: str, watched: Open) -> None:
    page = watched(f"{demo}#robot")
    start(page)
    nodes: list[dict[str, Any]] = page.context.new_cdp_session(page.page).send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "combobox", "slider", "spinbutton", "checkbox", "radio", "tab", "image"}
    found = [node for node in nodes if not node.get("ignored") and node.get("role", {}).get("value") in roles]
    assert len(found) > 10
    assert [node for node in found if not node.get("name", {}).get("value", "").strip()] == []
