"""Chromium without a screen, and pages that are watched for what they must not do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
# Chromium's own: it speaks of how Playwright takes screenshots, and recommends fields for passwords.
NOT_OURS = ("GPU stall due to ReadPixels", "Password forms should have", "GL Driver Message")
# The page's screenshots in docs/ are written where this says so: `make screenshots`.
SCREENSHOTS_VARIABLE = "PAGE_SCREENSHOTS"
NOTE_VIOLATIONS = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
        window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


def find_chromium() -> str | None:
    """Path of a browser on this machine."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


@contextmanager
def chromium(program: str) -> Iterator[Any]:
    """Run a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


class Watched:
    """An open page.

    Attributes:
        page: Playwright's.
        expected: parts of console lines that the test provokes, such as the status of an error.
    """

    def __init__(self, browser: Any, url: str, options: dict[str, Any]) -> None:
        self.context = browser.new_context(**{"viewport": DESKTOP, **options})
        self.context.add_init_script(NOTE_VIOLATIONS)
        self.page = self.context.new_page()
        self.expected: list[str] = []
        self._host = urlsplit(url).netloc
        self._lines: list[str] = []
        self._elsewhere: list[str] = []
        self._violations: list[str] = []
        self.page.on("console", lambda message: self._lines.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self._lines.append(f"uncaught: {error}"))
        self.page.on("request", self._on_request)
        self.page.on("websocket", lambda socket: self._note_host(socket.url))
        self.page.goto(url)

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith(("blob:", "data:")):
            self._note_host(request.url)

    def _note_host(self, url: str) -> None:
        if urlsplit(url).netloc != self._host:
            self._elsewhere.append(url)

    def find(self, selector: str, **options: Any) -> Any:
        """What a selector finds on the page, as it is when it is used."""
        return self.page.locator(selector, **options)

    def upload(self, picture: Path, timeout_s: float = 60.0) -> None:
        """Give the page a picture and wait for its depth."""
        self.find("#picture input.file").set_input_files(picture)
        self.find("#picture .has-depth").wait_for(timeout=timeout_s * 1000)

    def close(self) -> None:
        """Close the page; what it did is known now."""
        self._violations = self.page.evaluate("window.violations")
        self.context.close()

    def check(self) -> None:
        """Fail for errors and warnings of the console, requests to other hosts, and violations of the policy."""
        known = (*NOT_OURS, *self.expected)
        assert [line for line in self._lines if not any(part in line for part in known)] == []
        assert self._elsewhere == []
        assert self._violations == []


def keep_screenshot(watched: Watched, name: str) -> None:
    """Write a screenshot for the docs, where that is asked for."""
    folder = os.environ.get(SCREENSHOTS_VARIABLE)
    if folder:
        watched.page.screenshot(path=Path(folder) / f"{name}.jpg", type="jpeg", quality=88)
