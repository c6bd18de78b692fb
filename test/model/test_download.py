"""Downloads from a hub on this machine: whole and right, or not there at all."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from stand_in import Weights, save_official

from depth_anything_ros.errors import CheckpointNotFound, DownloadError, LicenseNotAccepted
from depth_anything_ros.model.checkpoint_download import download_checkpoint
from depth_anything_ros.model.checkpoint_search import cache_folder, find_checkpoint
from depth_anything_ros.model.weights import load_model

SMALL = (
    "/depth-anything/Depth-Anything-V2-Metric-Hypersim-Small/resolve/main/depth_anything_v2_metric_hypersim_vits.pth"
)
BASE = "/depth-anything/Depth-Anything-V2-Metric-Hypersim-Base/resolve/main/depth_anything_v2_metric_hypersim_vitb.pth"


@dataclass
class Hub:
    """What the server has, what it was asked, and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    announced_sha256: str | None = None
    cut_after: int | None = None
    endpoint: str = ""


class HubHandler(BaseHTTPRequestHandler):
    """The two requests that huggingface_hub makes for one file: HEAD for its hash, GET for its bytes."""

    def __init__(self, hub: Hub, *args: object) -> None:
        self.hub = hub
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._announce()

    def do_GET(self) -> None:
        content = self._announce()
        if content is not None:
            self.wfile.write(content[: self.hub.cut_after])
        if self.hub.cut_after is not None:
            self.hub.files.clear()  # the client would resume for ever: the file is gone when it asks again

    def _announce(self) -> bytes | None:
        self.hub.requests.append(f"{self.command} {self.path}")
        content = self.hub.files.get(self.path)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("X-Linked-Etag", f'"{self.hub.announced_sha256 or hashlib.sha256(content).hexdigest()}"')
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with nothing in it."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(HubHandler, hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def checkpoint(tmp_path: Path, toy_weights: Weights) -> bytes:
    return save_official(toy_weights, tmp_path / "served.pth").read_bytes()


def left_in_cache() -> list[str]:
    return [str(path.relative_to(cache_folder())) for path in cache_folder().rglob("*")]


def test_download_puts_the_right_file_into_the_cache_under_the_official_name(hub: Hub, checkpoint: bytes) -> None:
    hub.files[SMALL] = checkpoint
    path = download_checkpoint("vits", "hypersim", endpoint=hub.endpoint)
    assert path == cache_folder() / "depth_anything_v2_metric_hypersim_vits.pth"
    assert path.read_bytes() == checkpoint
    assert find_checkpoint("vits", "hypersim") == path
    assert left_in_cache() == [path.name]
    load_model("toy", "hypersim", path)


def test_download_goes_to_the_folder_that_is_named(hub: Hub, checkpoint: bytes, tmp_path: Path) -> None:
    hub.files[SMALL] = checkpoint
    path = download_checkpoint("vits", "hypersim", endpoint=hub.endpoint, folder=tmp_path / "new" / "folder")
    assert path == tmp_path / "new/folder/depth_anything_v2_metric_hypersim_vits.pth"
    assert path.read_bytes() == checkpoint
    assert not cache_folder().exists()


def test_wrong_content_is_refused_and_nothing_is_left(hub: Hub, checkpoint: bytes) -> None:
    hub.files[SMALL] = checkpoint
    hub.announced_sha256 = "0" * 64
    with pytest.raises(
        DownloadError, match=f"SHA-256 {hashlib.sha256(checkpoint).hexdigest()}, the hub announced 0000"
    ):
        download_checkpoint("vits", "hypersim", endpoint=hub.endpoint)
    assert left_in_cache() == []


def test_file_that_is_not_on_the_hub_is_named_and_nothing_is_left(hub: Hub) -> None:
    with pytest.raises(DownloadError, match=r"depth_anything_v2_metric_hypersim_vits\.pth from depth-anything/"):
        download_checkpoint("vits", "hypersim", endpoint=hub.endpoint)
    assert left_in_cache() == []


def test_connection_cut_in_the_middle_leaves_nothing_and_the_next_download_works(hub: Hub, checkpoint: bytes) -> None:
    hub.files[SMALL] = checkpoint
    hub.cut_after = len(checkpoint) // 2
    with pytest.raises(DownloadError, match="cannot download"):
        download_checkpoint("vits", "hypersim", endpoint=hub.endpoint)
    assert left_in_cache() == []
    hub.files[SMALL] = checkpoint
    hub.cut_after = None
    assert download_checkpoint("vits", "hypersim", endpoint=hub.endpoint).read_bytes() == checkpoint


def test_earlier_file_stays_when_a_download_fails(hub: Hub) -> None:
    cache_folder().mkdir(parents=True)
    earlier = cache_folder() / "depth_anything_v2_metric_hypersim_vits.pth"
    earlier.write_bytes(b"earlier")
    with pytest.raises(DownloadError):
        download_checkpoint("vits", "hypersim", endpoint=hub.endpoint)
    assert earlier.read_bytes() == b"earlier"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_no_hub_at_all_is_said_soon() -> None:
    start = time.monotonic()
    with pytest.raises(DownloadError, match="cannot download"):
        download_checkpoint("vits", "hypersim", endpoint=f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - start < 10
    assert left_in_cache() == []


def test_loading_without_a_hub_lists_the_places_and_the_ways() -> None:
    with pytest.raises(DownloadError, match="Looked for:") as refusal:  # conftest's hub answers nobody
        load_model("vits", "hypersim")
    assert str(cache_folder() / "depth_anything_v2_metric_hypersim_vits.pth") in str(refusal.value)
    assert "depth_anything download vits hypersim" in str(refusal.value)


@pytest.mark.parametrize("encoder", ["vitb", "vitl"])
def test_noncommercial_licence_is_refused_before_any_connection(hub: Hub, encoder: str) -> None:
    with pytest.raises(LicenseNotAccepted, match=r"CC-BY-NC-4\.0: non-commercial.*--accept-license"):
        download_checkpoint(encoder, "hypersim", endpoint=hub.endpoint)
    with pytest.raises(LicenseNotAccepted):
        load_model(encoder, "hypersim")
    assert hub.requests == []
    assert not cache_folder().exists()


def test_accepted_licence_lets_the_download_through(hub: Hub, checkpoint: bytes) -> None:
    hub.files[BASE] = checkpoint
    assert download_checkpoint("vitb", "hypersim", accept_license=True, endpoint=hub.endpoint).is_file()
    assert f"GET {BASE}" in hub.requests


def test_encoder_without_official_weights_is_not_asked_for(hub: Hub) -> None:
    with pytest.raises(CheckpointNotFound, match="no official weights"):
        download_checkpoint("toy", "hypersim", endpoint=hub.endpoint)
    assert hub.requests == []


def test_folder_that_cannot_be_written_is_a_download_error(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="file cannot be written: it is a file, not a folder"):
        download_checkpoint("vits", "hypersim", endpoint=hub.endpoint, folder=tmp_path / "file")
