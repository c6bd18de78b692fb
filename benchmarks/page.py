"""How fast the page is there, and how fast it draws a cloud in software rendering.

A real bridge serves the page on loopback to headless Chromium without a GPU. First paint is the browser's own figure,
with an empty cache, over several loads. The cloud is a toy network's, of a picture of 640x480, on a canvas of about
500x380 pixels: once turned without a pause, when the page leaves points out as it needs to, and once drawn whole.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2

from benchmarks import report, versions
from benchmarks.bridge import running_server
from depth_anything_ros.synthetic.camera import SyntheticCamera

FLAGS = ("--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
TURN = """([canvas, seconds]) => new Promise((resolve) => {
    const begin = performance.now(), first = Number(canvas.dataset.drawn);
    const turn = () => {
        canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
        const spent = (performance.now() - begin) / 1000;
        if (spent < seconds) requestAnimationFrame(turn);
        else resolve([(Number(canvas.dataset.drawn) - first) / spent, Number(canvas.dataset.every)]);
    };
    requestAnimationFrame(turn);
})"""
DRAW_WHOLE = """(canvas) => new Promise((resolve) => {
    const times = [];
    let begin = 0;
    new MutationObserver(() => {
        if (canvas.dataset.state !== "resting") return;
        begin = performance.now();
        const gl = canvas.getContext("webgl2");
        gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
        times.push(performance.now() - begin);
        if (times.length < 5) canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
        else resolve(times);
    }).observe(canvas, {attributeFilter: ["data-drawn"]});
    canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
})"""


def main(argv: list[str]) -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="benchmarks page", description=__doc__)
    parser.add_argument("--loads", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="for which the cloud is turned")
    args = parser.parse_args(argv)
    program = shutil.which("chromium")
    if program is None:
        print("no Chromium on this machine: apt-get install chromium", file=sys.stderr)
        return
    from playwright.sync_api import sync_playwright

    with running_server("toy") as port, sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{port}/"
        room = Path(folder) / "room.png"
        cv2.imwrite(str(room), SyntheticCamera(seed=7).frame().image_bgr)
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        paints_ms = [first_paint_ms(browser, url) for _ in range(args.loads)]
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url)
        page.locator("#picture input.file").set_input_files(room)
        page.locator("#picture .has-depth").wait_for(timeout=120_000)
        canvas = page.locator("#picture canvas.points[data-state=resting]").element_handle()
        whole_ms = statistics.median(canvas.evaluate(DRAW_WHOLE))
        turning_hz, every = page.evaluate(TURN, [canvas, args.seconds])
        report(
            "page",
            versions=versions("playwright", "fastapi", "uvicorn"),
            browser=browser.version,
            image="640x480",
            first_paint_ms={"median": round(statistics.median(paints_ms)), "worst": round(max(paints_ms))},
            turning_frames_per_s=round(turning_hz, 1),
            turning_share_of_points=round(1 / every**2, 3),
            whole_cloud_ms=round(whole_ms, 1),
        )
        browser.close()


def first_paint_ms(browser: Any, url: str) -> float:
    """Load the page in a new profile; milliseconds from navigation to the first paint with content."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(url)
    page.locator("#picture option:checked").first.wait_for(state="attached")
    entries = page.evaluate("performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)")
    context.close()
    return float(entries[0])
