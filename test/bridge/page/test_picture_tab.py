"""The page's first tab in a real browser: what it shows against what the server answers."""

from __future__ import annotations

import base64
import io
import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from browsing import DESKTOP, PHONE, Watched, keep_screenshot
from numpy.typing import NDArray
from PIL import Image
from projection import Pose, draw
from running_bridge import HeldEstimator, RunningBridge

from depth_anything_ros.io.formats import colorize

Ask = Callable[[str, str], httpx.Response]
Open = Callable[..., Watched]
PIXELS = ((0, 0), (319, 239), (17, 201), (160, 120), (290, 33))  # column, row
MODEL = "encoder=vitt&dataset=synthetic"


@pytest.fixture(scope="module")
def depth(asked: Ask) -> NDArray[np.float32]:
    """The server's own answer."""
    return np.asarray(np.load(io.BytesIO(asked(f"metric_depth?{MODEL}", "application/x-npy").content)))


def download(page: Watched, kind: str) -> bytes:
    with page.page.expect_download() as saved:
        page.find(f"button[data-file={kind}]").click()
    return Path(saved.value.path()).read_bytes()


DRAWN_ONCE_MORE = """(canvas) => new Promise((resolve) => {
    new MutationObserver((_, observer) => {  // told while the pixels are still in the canvas
        if (canvas.dataset.state !== "resting") return;
        observer.disconnect();
        resolve([canvas.toDataURL(), canvas.dataset.pose, canvas.dataset.every]);
    }).observe(canvas, {attributeFilter: ["data-drawn"]});
    canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "-"}));
})"""


def read_picture(data: bytes | Path, flags: int = cv2.IMREAD_COLOR) -> NDArray[Any]:
    """Decode a file or its bytes."""
    content = data if isinstance(data, bytes) else data.read_bytes()
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    assert picture is not None
    return np.asarray(picture)


def cloud_of(page: Watched) -> tuple[NDArray[np.uint8], Pose]:
    """The cloud's own pixels, uint8 BGRA, seen from a little farther away, and from where that is."""
    address, pose, every = page.find("#picture canvas.points").evaluate(DRAWN_ONCE_MORE)
    assert every == "1"
    return read_picture(base64.b64decode(address.partition(",")[2]), cv2.IMREAD_UNCHANGED), Pose.parse(pose)


def picture_of(page: Watched, selector: str) -> NDArray[np.uint8]:
    """A screenshot of an element, uint8 BGR."""
    return read_picture(page.find(selector).screenshot())


def test_the_metres_under_the_cursor_are_the_servers(shown: Watched, depth: NDArray[np.float32]) -> None:
    stage = shown.find("#picture .stage").bounding_box()
    for u, v in PIXELS:
        x, y = (u + 0.5) / 320 * stage["width"], (v + 0.5) / 240 * stage["height"]
        shown.page.mouse.move(stage["x"] + x, stage["y"] + y)
        assert shown.find("#picture .readout").inner_text() == f"{depth[v, u]:.3f} m at {u}, {v}"
    shown.find("#picture .stage").focus()
    for key in ("ArrowLeft", "Shift+ArrowDown"):
        shown.page.keyboard.press(key)
    u, v = PIXELS[-1][0] - 1, PIXELS[-1][1] + 10
    spoken = shown.find("#picture figure .spoken")
    assert spoken.inner_text() == f"{depth[v, u]:.3f} m at {u}, {v}"
    assert spoken.get_attribute("role") == "status"


def test_depth_has_the_colours_of_the_nodes_own_picture_and_the_slider_uncovers_it(
    shown: Watched, depth: NDArray[np.float32], room: Path
) -> None:
    stage = shown.find("#picture .stage")
    place = "{position: 'fixed', inset: '0 auto auto 0', width: '320px', height: '240px'}"
    stage.evaluate(f"(stage) => Object.assign(stage.style, {place})")
    divider = shown.find("#picture .divider")
    divider.evaluate("(divider) => (divider.style.opacity = 0)")
    for key, expected in (
        ("Home", colorize(depth, float(depth.min()), float(depth.max()))),
        ("End", read_picture(room)),
    ):
        divider.focus()
        shown.page.keyboard.press(key)
        picture = picture_of(shown, "#picture .stage")
        assert picture.shape == (240, 320, 3)
        difference = np.abs(picture[:, 3:-3].astype(int) - expected[:, 3:-3])
        assert np.quantile(difference, 0.99) <= 8, key  # colours between the stops of the map are interpolated
    for changed in (stage, divider):
        names = ["position", "inset", "width", "height", "opacity"]
        changed.evaluate("(element, names) => names.forEach((name) => element.style.removeProperty(name))", names)


@pytest.mark.parametrize("view", ["Front", "Oblique"])
def test_the_clouds_pixels_are_those_of_a_projection_made_elsewhere(
    view: str, shown: Watched, asked: Ask, room: Path
) -> None:
    points = np.load(io.BytesIO(asked(f"pc?{MODEL}&fov_deg=60", "application/x-npy").content)).reshape(-1, 3)
    colours = np.asarray(cv2.cvtColor(read_picture(room), cv2.COLOR_BGR2BGRA), np.uint8).reshape(-1, 4)
    shown.find("#picture .scale").uncheck()
    shown.find("#picture .cloud").get_by_role("button", name=view, exact=True).click()
    drawn, pose = cloud_of(shown)
    assert (pose.yaw == 0) == (view == "Front")
    size = (drawn.shape[1], drawn.shape[0])
    expected = draw(points, colours, pose, 160 / np.tan(np.radians(30)), size)

    def share(picture: NDArray[np.uint8]) -> float:
        return float((np.abs(picture.astype(int) - expected) <= 2).all(axis=-1).mean())

    assert share(drawn) > 0.96
    assert share(np.roll(drawn, 1, axis=1)) < 0.9  # so a pixel more or less would be seen


def test_what_is_saved_is_what_the_server_would_have_sent(shown: Watched, asked: Ask, room: Path) -> None:
    assert download(shown, "npy") == asked(f"metric_depth?{MODEL}", "application/x-npy").content
    saved, sent = (
        read_picture(data, cv2.IMREAD_UNCHANGED)
        for data in (download(shown, "png"), asked(f"metric_depth?{MODEL}", "image/png").content)
    )
    assert saved.dtype == np.uint16
    np.testing.assert_array_equal(saved, sent)
    head, _, body = download(shown, "ply").partition(b"end_header\n")
    own_head, _, own_body = asked(f"pc?{MODEL}&fov_deg=60", "application/x-ply").content.partition(b"end_header\n")
    assert head == own_head
    vertex = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    cloud, own = np.frombuffer(body, vertex), np.frombuffer(own_body, vertex)
    np.testing.assert_allclose(cloud["xyz"], own["xyz"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(cloud["rgb"], own["rgb"])
    assert download(shown, "picture") == room.read_bytes()


def test_the_line_for_a_shell_gets_the_same_depth(shown: Watched, asked: Ask, room: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    line = shown.find("#picture pre code").inner_text()
    shutil.copy(room, tmp_path)
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True, timeout=60, capture_output=True)
    assert (tmp_path / "depth.npy").read_bytes() == asked(f"metric_depth?{MODEL}", "application/x-npy").content


def test_every_control_has_a_name_and_none_has_another_ones(shown: Watched) -> None:
    session = shown.context.new_cdp_session(shown.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "combobox", "slider", "spinbutton", "checkbox", "radio", "tab", "searchbox", "image"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node.get("role", {}).get("value") in roles
    ]
    assert len(named) > 20
    assert [role for role, name in named if not name.strip()] == []
    assert len(named) == len(set(named)), "two controls of one kind have the same name"


def test_everything_can_be_reached_with_the_keyboard_in_the_order_it_is_seen(shown: Watched) -> None:
    shown.find("#tab-picture").focus()
    order = []
    for _ in range(40):
        order.append(shown.page.evaluate("document.activeElement.getBoundingClientRect().top"))
        shown.page.keyboard.press("Tab")
        if shown.page.evaluate("document.activeElement === document.body"):
            break
    reached = len(order)
    assert reached >= 20
    tabs = shown.find("#tab-picture")
    tabs.focus()
    shown.page.keyboard.press("ArrowRight")
    assert shown.find("#robot").is_visible()
    assert shown.find("#picture").is_hidden()


def test_nothing_sticks_out_on_a_desktop_or_a_phone_in_light_or_dark(shown: Watched) -> None:
    for size, scheme in itertools.product((PHONE, DESKTOP), ("dark", "light")):
        shown.page.set_viewport_size(size)
        shown.page.emulate_media(color_scheme=scheme)
        shown.find("#picture canvas.points[data-state=resting]").wait_for()
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        ground = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (np.mean([int(part) for part in re.findall(r"\d+", ground)]) > 128) == (scheme == "light")
        if size is DESKTOP:
            shown.find("#picture .stage").hover(position={"x": 330, "y": 200})
            keep_screenshot(shown, f"page_picture_{scheme}")


def test_the_camera_that_is_typed_bends_the_cloud_without_asking_again(shown: Watched) -> None:
    requests: list[str] = []
    shown.page.on("request", lambda request: requests.append(request.url))
    shown.find("[name=known_by]").select_option("pinhole")
    notice = shown.find("#picture .notice")
    notice.wait_for()
    assert "camera is not known" in notice.inner_text()
    for name, value in {"fx": 300, "fy": 300, "cx": 159.5, "cy": 119.5}.items():
        shown.find(f"[name={name}]").fill(str(value))
        shown.find(f"[name={name}]").press("Tab")
    shown.find("#picture canvas.points[data-state=resting]").wait_for()
    assert notice.is_hidden()
    data = download(shown, "ply").partition(b"end_header\n")[2]
    cloud = np.frombuffer(data, np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)]))["xyz"]
    np.testing.assert_allclose(cloud[0, 0] / cloud[0, 2], -159.5 / 300, rtol=1e-5)
    assert requests == []


def test_a_photograph_that_lies_on_its_side_is_sent_and_shown_upright(
    shown: Watched, room: Path, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    sideways = tmp_path / "sideways.jpg"
    Image.open(room).save(sideways, exif=exif, quality=95)
    shown.upload(sideways)
    shown.find("#picture .facts").get_by_text("240 × 320").wait_for()
    picture = read_picture(download(shown, "picture"))
    upright = cv2.rotate(read_picture(room), cv2.ROTATE_90_CLOCKWISE)
    assert np.abs(picture.astype(int) - upright).mean() < 6


GIVE = """([way, bytes]) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], `${way}.png`, {type: "image/png"}));
    document.dispatchEvent(way === "drop"
        ? new DragEvent("drop", {dataTransfer: data, cancelable: true})
        : new ClipboardEvent("paste", {clipboardData: data}));
}"""


@pytest.mark.parametrize("way", ["paste", "drop", "camera"])
def test_a_picture_may_be_pasted_dropped_or_taken(way: str, shown: Watched, room: Path) -> None:
    if way == "camera":  # Chromium's stand-in for one
        shown.page.get_by_role("button", name="Take picture").click()
        shown.page.get_by_role("button", name="Take the picture").click()
    else:
        shown.page.evaluate(GIVE, [way, list(room.read_bytes())])
    shown.find("#picture pre code").get_by_text(f"@{way}.").wait_for()
    shown.find("#picture .has-depth").wait_for(timeout=60_000)


def test_errors_come_in_the_servers_own_words_and_the_next_answer_takes_them_away(
    shown: Watched, asked: Ask, tmp_path: Path
) -> None:
    shown.find("[name=max_depth]").fill("5000")
    shown.find("[name=max_depth]").press("Enter")
    problem = shown.find("#picture .views > .problem")
    problem.wait_for()
    assert problem.inner_text() == asked(f"metric_depth?{MODEL}&max_depth=5000", "image/png").json()["detail"]
    assert problem.get_attribute("role") == "alert"
    assert shown.find("button[data-file=npy]").is_disabled()
    shown.find("[name=max_depth]").fill("5")
    shown.find("[name=max_depth]").press("Enter")
    shown.find("#picture .has-depth").wait_for()
    assert problem.is_hidden()
    assert "largest depth 5 m" in shown.find("#picture .facts").inner_text()
    (tmp_path / "notes.txt").write_text("no picture")
    shown.find("#picture input.file").set_input_files(tmp_path / "notes.txt")
    problem.wait_for()
    assert "notes.txt" in problem.inner_text()


def test_depth_without_metres_is_never_called_metres(watched: Open, running_bridge: RunningBridge, room: Path) -> None:
    page = watched(f"{running_bridge.url}/")
    page.find("[name=model] option:checked").wait_for(state="attached")
    page.upload(room)
    for model, words in {"toy relative": "larger is nearer", "toy da3": "unknown factor"}.items():
        options = page.find("[name=model] option").all_inner_texts()
        label = next(text for text in options if re.match(rf"{model}\b", text))
        page.find("[name=model]").select_option(label=label)
        page.find("#picture .meaning", has_text=words).wait_for()
        page.find("#picture .has-depth").wait_for()
        assert "no unit" in page.find("#picture .meaning").inner_text()
        assert " m" not in page.find("#picture .bar .numbers").inner_text()
        page.find("#picture .stage").hover()
        assert re.fullmatch(r"[-\d.e]+ at \d+, \d+", page.find("#picture .readout").inner_text())
        assert page.find("button[data-file=png]").is_disabled()
        assert page.find("button[data-file=ply]").is_disabled()
        assert page.find("#picture .notice").is_visible() == (model == "toy relative")


def test_while_it_waits_the_page_shows_the_queue(
    watched: Open, serve_app: Callable[..., str], room: Path, metric_request: dict[str, Any]
) -> None:
    held = HeldEstimator()
    url = serve_app(None, held.cache())
    page = watched(f"{url}/")
    page.find("[name=model] option:checked").wait_for(state="attached")
    page.find("#picture input.file").set_input_files(room)
    assert held.started.acquire(timeout=30)
    with ThreadPoolExecutor(2) as others:
        asked = [others.submit(httpx.post, f"{url}/metric_depth", json=metric_request, timeout=60) for _ in range(2)]
        page.find("#picture .busy").get_by_text("2 requests wait in the queue").wait_for()
        held.released.set()
        page.find("#picture .has-depth").wait_for()
        assert page.find("#picture .busy").is_hidden()
        assert [answer.result().status_code for answer in asked] == [200, 200]


def test_a_key_is_asked_for_and_not_kept(watched: Open, serve_app: Callable[..., str], room: Path) -> None:
    url = serve_app(api_key="right-key")
    page = watched(f"{url}/")
    page.expected.append("401")
    dialog = page.page.get_by_role("dialog", name="This server asks for a key")
    dialog.wait_for()
    page.page.get_by_label("Key", exact=True).fill("wrong-key")
    page.page.get_by_role("button", name="Continue").click()
    dialog.locator(".problem").wait_for()
    assert "API key" in dialog.locator(".problem").inner_text()
    page.page.get_by_label("Key", exact=True).fill("right-key")
    page.page.get_by_role("button", name="Continue").click()
    dialog.wait_for(state="hidden")
    page.upload(room)
    assert '-H "Authorization: Bearer $KEY"' in page.find("#picture pre code").inner_text()
    assert "right-key" not in page.page.content()
    kept = page.page.evaluate("document.cookie + JSON.stringify({...localStorage, ...sessionStorage})")
    assert kept == "{}"
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.page.reload()
    page.find("[name=model] option:checked").wait_for(state="attached")
    assert dialog.is_hidden()
    page.page.get_by_role("button", name="Forget the key").click()
    dialog.wait_for()
