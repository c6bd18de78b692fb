"""`depth_anything_client`, run as a program."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import cv2
import numpy as np
import pytest
from client_hosts import healthy, host
from numpy.typing import NDArray
from running_bridge import RunningBridge

from bridge.client.cli import main
from bridge.client.photo_cameras import Cameras
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.messages.rectification import Rectification

ROOT = Path(__file__).parents[3]
INTRINSICS = {"fx": 60.0, "fy": 61.0, "cx": 31.5, "cy": 23.5}


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], out: Path) -> Run:
    """Run the command with `--out` in this process: `run(*arguments) -> (status, stdout, stderr)`."""

    def command(*arguments: object) -> tuple[int, str, str]:
        status = main([*map(str, arguments), "--out", str(out)])
        return status, *capsys.readouterr()

    return command


def picture_file(path: Path, width: int, height: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1].tobytes())
    return path


def test_ctrl_c_ends_the_command_without_a_traceback(photo_file: Path, tmp_path: Path) -> None:
    gone = threading.Event()
    arrived = threading.Event()

    def never(handler: BaseHTTPRequestHandler) -> None:
        arrived.set()
        gone.wait(30)

    with host(never) as (url, _):
        command = [sys.executable, "-m", "bridge.client.cli", str(photo_file), "--url", url, "--out", str(tmp_path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert arrived.wait(30)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        gone.set()
    assert process.returncode == 130
    assert errors == "interrupted\n"


def test_the_command_says_in_one_line_what_is_wrong_before_anything_is_sent(
    photo_file: Path, tmp_path: Path, run: Run
) -> None:
    text, empty = tmp_path / "notes.txt", tmp_path / "empty"
    text.write_text("no image")
    empty.write_text("")
    with host(healthy) as (url, ports):
        for arguments, reason in (
            ((text, "--url", url), "notes.txt: this is no image of a known format; allowed: JPEG, PNG, WebP"),
            ((tmp_path / "none.jpg", "--url", url), "none.jpg: No such file or directory"),
            ((tmp_path, "--url", url), "Is a directory"),
            (("/dev/zero", "--url", url), "not a regular file"),
            ((photo_file, "--url", url, "--model", "x"), "vits_hypersim_518"),
            ((photo_file, "--url", "robot"), "http://robot:8000"),
            (("--url", url), "name photographs, or --cameras, or --camera NAME"),
            ((photo_file, "--cameras", "--url", url), "name photographs, or --cameras, or --camera NAME"),
            ((photo_file, "--watch", "--url", url), "--watch needs --camera NAME"),
            (("--camera", "front", "--fov", "60", "--url", url), "leave --fov out: that is for photographs"),
            ((photo_file, "--url", url, "--api-key-file", empty), "is empty"),
            ((photo_file, "--url", url, "--max-depth", "-1"), "--max-depth must be a positive number"),
            ((photo_file, "--url", url, "--max-depth", "nan"), "--max-depth must be a positive number"),
            ((photo_file, "--url", url, "--fov", "180"), "field of view must be between 0 and 180"),
            ((photo_file, "--url", url, "--intrinsics", "0", "60", "32", "24"), "fx=0"),
            ((photo_file, "--url", url, "--undistort"), "--undistort needs the lens"),
            ((photo_file, "--url", url, "--distortion", "0.1"), "--distortion needs --intrinsics, --focal or --fov"),
            ((photo_file, "--url", url, "--fov", "60", "--distortion-model", "radtan"), "needs --distortion"),
            ((photo_file, "--url", url, "--fov", "60", "--undistort-focal", "60"), "needs --undistort"),
            ((photo_file, "--url", url, "--focal", "0"), "fx=0"),
            ((photo_file, "--url", url, "--model", "toy_da3_56", "--max-depth", "9"), "model toy_da3_56, which has no"),
            ((photo_file, "--server", "x", "--servers-file", tmp_path / "none.yaml"), "none.yaml"),
            ((photo_file, "--server", "x", "--api-key-file", empty), "--api-key-file belongs to --url"),
        ):
            status, _, errors = run(*arguments)
            assert status == 1
            assert errors.count("\n") == 1
            assert errors.startswith("depth_anything_client: ")
            assert reason in errors
        assert ports == []


def test_a_server_that_is_not_there_ends_the_command(photo_file: Path, run: Run) -> None:
    with host(healthy) as (url, _):
        pass  # closed again: nobody listens
    status, _, errors = run(photo_file, "--url", url)
    assert (status, errors.count("\n")) == (1, 1)
    assert "no answer from" in errors


def test_the_command_writes_depth_picture_and_cloud(
    running_bridge: RunningBridge,
    photo: NDArray[np.uint8],
    photo_file: Path,
    out: Path,
    estimator: DepthEstimator,
    run: Run,
) -> None:
    status, _, errors = run(
        photo_file, "--url", running_bridge.url, "--max-depth", 20, "--intrinsics", *INTRINSICS.values()
    )
    assert status == 0, errors
    depth = estimator.estimate(photo, 20.0).values
    levels = cv2.imread(str(out / "photo_depth.png"), cv2.IMREAD_UNCHANGED)
    assert levels is not None
    np.testing.assert_allclose(levels / 1000.0, depth, atol=0.6e-3)
    picture = cv2.imread(str(out / "photo_color.png"))
    assert picture is not None
    assert picture.shape == photo.shape
    header, vertices = cloud_of(out / "photo.ply")
    assert b"element vertex %d" % depth.size in header
    np.testing.assert_allclose(vertices["xyz"][:, 2], depth.ravel(), atol=1e-5)


def test_a_named_server_has_its_own_model_and_the_scale_is_said(
    running_bridge: RunningBridge, photo_file: Path, tmp_path: Path, run: Run
) -> None:
    servers = tmp_path / "servers.yaml"
    servers.write_text(f"lab: {{base_url: '{running_bridge.url}', model: toy_vkitti_56}}")
    status, said, errors = run(photo_file, "--server", "lab", "--servers-file", servers)
    assert status == 0, errors
    assert "(toy_vkitti_56, max_depth 80 m)" in said
    assert "metres x 819" in said
    assert "fx 55.4" in said  # 60 degrees over 64 pixels


@pytest.mark.parametrize(
    ("options", "remark"),
    [
        (["--model", "toy_hypersim_56"], b"focal length 55.4 px is assumed: 60 degrees along the longer side"),
        (["--model", "toy_da3_56"], b"px is assumed"),  # random weights find no focal length
        (["--model", "toy_hypersim_56", "--fov", "60"], b""),
    ],
)
def test_a_cloud_says_of_itself_that_its_focal_length_is_a_guess(
    running_bridge: RunningBridge, photo_file: Path, out: Path, run: Run, options: list[str], remark: bytes
) -> None:
    status, said, errors = run(photo_file, "--url", running_bridge.url, *options)
    assert status == 0, errors
    header, _ = cloud_of(out / "photo.ply")
    assert remark in header
    assert remark.decode() in said
    assert (b"focal length" in header) == bool(remark)


def test_a_model_whose_metres_follow_from_the_camera_hears_the_users_camera_and_no_guess(
    running_bridge: RunningBridge, photo_file: Path, run: Run
) -> None:
    options = (photo_file, "--url", running_bridge.url, "--model", "toy_da3metric_56")
    status, _, errors = run(*options)
    assert (status, errors.count("\n")) == (1, 1)
    assert "focal length" in errors
    status, said, errors = run(*options, "--fov", 60)
    assert status == 0, errors
    assert "toy_da3metric_56" in said


def cloud_of(path: Path) -> tuple[bytes, NDArray[np.void]]:
    """Header and vertices of a PLY file of coloured points."""
    header, _, vertices = path.read_bytes().partition(b"end_header\n")
    return header, np.frombuffer(vertices, [("xyz", "<f4", 3), ("rgb", "u1", 3)])


def test_the_files_are_of_the_rectified_photograph_where_the_lens_is_taken_out(
    running_bridge: RunningBridge,
    photo: NDArray[np.uint8],
    photo_file: Path,
    out: Path,
    estimator: DepthEstimator,
    run: Run,
) -> None:
    lens = ("--intrinsics", *INTRINSICS.values(), "--distortion", -0.2, 0.03, 0, 0)
    status, said, errors = run(photo_file, "--url", running_bridge.url, *lens, "--undistort", "--undistort-focal", 90)
    assert status == 0, errors
    height, width = photo.shape[:2]
    camera = CameraModel(
        **INTRINSICS, width=width, height=height, distortion_model="plumb_bob", distortion=(-0.2, 0.03, 0, 0)
    )
    rectification = Rectification(camera, 90.0)
    depth = estimator.estimate(rectification(photo)).values
    levels = cv2.imread(str(out / "photo_depth.png"), cv2.IMREAD_UNCHANGED)
    assert levels is not None
    np.testing.assert_allclose(levels / 1000.0, depth, atol=0.6e-3)
    _, vertices = cloud_of(out / "photo.ply")
    np.testing.assert_allclose(vertices["xyz"], rectification.camera.back_project(depth).reshape(-1, 3), atol=1e-4)
    np.testing.assert_array_equal(vertices["rgb"], rectification(photo)[..., ::-1].reshape(-1, 3))
    assert "fx 90 " in said
    status, _, errors = run(photo_file, "--url", running_bridge.url, *lens)  # the rays bend instead
    assert status == 0, errors
    points = camera.back_project(estimator.estimate(photo).values).reshape(-1, 3)
    np.testing.assert_allclose(cloud_of(out / "photo.ply")[1]["xyz"], points, atol=1e-4)


def test_a_model_without_metres_gives_what_it_has(
    running_bridge: RunningBridge, photo: NDArray[np.uint8], photo_file: Path, out: Path, run: Run
) -> None:
    status, said, errors = run(photo_file, "--url", running_bridge.url, "--model", "toy_da3_56", "--focal", 70)
    assert status == 0, errors
    assert "scale_invariant (toy_da3_56)" in said
    depth = np.load(out / "photo_depth.npy")
    header, vertices = cloud_of(out / "photo.ply")
    assert b"comment" in header
    assert "fx 70 " in said
    np.testing.assert_allclose(vertices["xyz"][:, 2], depth.ravel())
    (out / "photo.ply").unlink()
    status, _, errors = run(photo_file, "--url", running_bridge.url, "--model", "toy_relative_56")
    assert status == 0, errors
    assert sorted(path.name for path in out.iterdir()) == ["photo_color.png", "photo_depth.npy"]


def test_photographs_of_one_name_do_not_overwrite_each_other_and_a_bad_one_does_not_stop_the_rest(
    running_bridge: RunningBridge, tmp_path: Path, out: Path, run: Run
) -> None:
    first = picture_file(tmp_path / "a" / "x.png", 64, 48)
    second = picture_file(tmp_path / "b" / "x.png", 32, 24)
    bad = tmp_path / "b" / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff")
    elongated = picture_file(tmp_path / "b" / "long.png", 900, 9)  # the server refuses it
    status, said, errors = run(bad, elongated, first, second, first, "--url", running_bridge.url)
    assert status == 1
    assert [line.partition(": ")[2].partition(": ")[0] for line in errors.splitlines()] == [str(bad), str(elongated)]
    assert "aspect ratio" in errors
    for name, width in (("x", 64), ("x-2", 32)):
        depth = cv2.imread(str(out / f"{name}_depth.png"), cv2.IMREAD_UNCHANGED)
        assert depth is not None
        assert depth.shape[1] == width
    assert f"{out / 'x-2'}_depth.png" in said
    assert len(list(out.iterdir())) == 6


def test_intrinsics_hold_for_the_first_photograph_and_are_scaled_where_the_size_differs_by_one_factor() -> None:
    cameras = Cameras((615.0, 616.0, 319.5, 239.5), None)
    assert cameras.of(640, 480).fx == 615.0
    half = cameras.of(320, 240)
    assert (half.fx, half.fy, half.cx, half.cy) == (307.5, 308.0, 159.5, 119.5)
    with pytest.raises(CameraError, match=r"it is 1280x720, and --intrinsics hold for 640x480"):
        cameras.of(1280, 720)


def test_a_photograph_whose_camera_is_not_known_is_not_sent(
    tmp_path: Path, run: Run, running_bridge: RunningBridge
) -> None:
    small, wide = picture_file(tmp_path / "s.png", 64, 48), picture_file(tmp_path / "w.png", 64, 36)
    options = ("--url", running_bridge.url, "--intrinsics", *INTRINSICS.values())
    status, said, errors = run(small, wide, *options)
    assert (status, errors.count("\n")) == (1, 1)
    assert "w.png: it is 64x36" in errors
    assert "s.png" in said
