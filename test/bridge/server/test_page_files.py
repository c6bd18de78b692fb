"""`GET /`: the page's files, as any HTTP client gets them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_bridge import RunningBridge

from bridge.server.page import FOLDER, PAGE_PATHS

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = [file for file in sorted(FOLDER.iterdir()) if file.suffix in TYPES]


def path_of(file: Path) -> str:
    return "/" if file.name == "index.html" else f"/page/{file.name}"


def test_every_file_of_the_page_comes_as_it_lies_in_the_package_with_its_type(http: httpx.Client) -> None:
    assert sorted(map(path_of, FILES)) == sorted(PAGE_PATHS)
    for file in FILES:
        answer = http.get(path_of(file))
        assert answer.content == file.read_bytes()
        assert answer.headers["content-type"].partition(";")[0] == TYPES[file.suffix]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_policy_allows_nothing_inline_no_eval_and_no_other_host(http: httpx.Client) -> None:
    policy = http.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert not re.search(r"unsafe|https?:|\*|data:", policy)


def test_a_file_that_is_known_is_not_sent_again(http: httpx.Client) -> None:
    first = http.get("/page/main.js")
    again = http.get("/page/main.js", headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert http.get("/page/main.js", headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_says_what_get_would_and_sends_nothing(http: httpx.Client) -> None:
    head, get = http.head("/"), http.get("/")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    "path",
    ["/page", "/page/", "/page/jsconfig.json", "/page/..%2Fserver%2Fauth.py", "/page/%2e%2e/server/auth.py", "/v1/"],
)
def test_no_other_file_can_be_named(running_bridge: RunningBridge, path: str) -> None:
    address = httpx.URL(running_bridge.url).copy_with(raw_path=path.encode())
    assert httpx.get(address).status_code == 404


def test_the_page_needs_no_key_and_what_it_fetches_does(serve_app: Callable[..., str]) -> None:
    url = serve_app(api_key="a-key")
    assert httpx.get(f"{url}/").status_code == 200
    assert httpx.get(f"{url}/page/style.css").status_code == 200
    assert httpx.get(f"{url}/models").status_code == 401
    assert httpx.get(f"{url}/page/other.js").status_code == 401


def test_a_proxy_may_show_the_page_under_any_path(serve_app: Callable[..., str]) -> None:
    url = serve_app(root_path="/depth")
    for path in ("/depth/", "/", "/depth/page/main.js"):
        assert httpx.get(url + path).status_code == 200
    named = re.findall(r'(?:src|href)="([^"]*)"', (FOLDER / "index.html").read_text())
    assert named
    assert all(f"/{name}" in PAGE_PATHS for name in named)  # relative to the page, so below the proxy's path


def test_every_module_that_is_imported_is_there() -> None:
    imported: dict[str, Any] = {
        name: file.name
        for file in FOLDER.glob("*.js")
        for name in re.findall(r'(?:from |import\()"\./([^"]+)"', file.read_text())
    }
    assert len(imported) > 10
    assert {name for name in imported if not (FOLDER / name).is_file()} == set()
    entry = {"main.js"}
    assert {file.name for file in FOLDER.glob("*.js")} == set(imported) | entry  # none is left over
