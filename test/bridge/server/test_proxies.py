"""The bridge beside other software of the web: proxies in front, pages elsewhere, both kinds of IP."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from running_bridge import eventually, toy_settings

from bridge.server.app import create_app
from bridge.server.supervisor import open_listener
from bridge.server.worker import create_cache, create_server

Json = dict[str, Any]
KEY = "k3y-for-tests"
REQUEST = b"GET /livez HTTP/1.1\r\nHost: bridge\r\n\r\n"
PAGE = "https://page.example"


def test_an_idle_connection_is_kept_longer_than_a_proxy_keeps_it() -> None:
    settings = toy_settings()
    server = create_server(create_app(create_cache(settings, ["cpu"]), settings), settings)
    assert server.config.timeout_keep_alive == settings.keep_alive_s == 75
    assert settings.keep_alive_s > 60  # nginx's keepalive_timeout to an upstream


def test_the_time_for_which_an_idle_connection_is_kept_can_be_set(serve_app: Callable[..., str]) -> None:
    address = httpx.URL(serve_app(keep_alive_s=1, header_timeout_s=0.2))
    with socket.create_connection((address.host, address.port or 0), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(REQUEST)
            assert b"alive" in connection.recv(4096)
            time.sleep(0.5)  # longer than headers may take once they have begun
        start_s = time.monotonic()
        assert connection.recv(4096) == b""
        assert time.monotonic() - start_s < 5


@pytest.fixture(scope="module")
def nginx() -> str:
    found = shutil.which("nginx")
    if found is None:
        pytest.skip("nginx is not installed: apt-get install nginx")
    return found


def test_nginx_that_keeps_connections_gets_every_answer(
    serve_app: Callable[..., str], nginx: str, tmp_path: Path, metric_request: Json
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "nginx.conf"
    config.write_text(f"""
daemon off; pid {tmp_path}/pid; error_log stderr; worker_processes 1;
events {{}}
http {{
  access_log off; client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;
  fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
  upstream bridge {{ server {serve_app(root_path="/depth").removeprefix("http://")}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    location /depth/ {{ proxy_pass http://bridge/; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
""")
    process = subprocess.Popen([nginx, "-c", str(config), "-p", str(tmp_path)], stderr=subprocess.PIPE)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/depth", timeout=10) as client:
            eventually(lambda: answers(client))
            statuses = []
            for wait_s in [0.0] * 10 + [0.3] * 5:
                time.sleep(wait_s)
                statuses.append(client.post("/metric_depth", json=metric_request).status_code)
            assert statuses == [200] * 15
            assert '"/depth/openapi.json"' in client.get("/docs").text.replace("'", '"')
            assert client.get("/openapi.json").json()["servers"] == [{"url": "/depth"}]
    finally:
        process.terminate()
        process.communicate(timeout=10)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").is_success
    except httpx.TransportError:
        return False


def test_a_sub_path_is_served_whether_the_proxy_strips_it_or_not(
    serve_app: Callable[..., str], metric_request: Json
) -> None:
    url = serve_app(root_path="/depth", api_key=SecretStr(KEY))
    bearer = {"Authorization": f"Bearer {KEY}"}
    for prefix in ("", "/depth", "/v1", "/depth/v1"):
        assert httpx.get(f"{url}{prefix}/health").status_code == 200
        assert httpx.post(f"{url}{prefix}/metric_depth", json=metric_request).status_code == 401
        answer = httpx.post(f"{url}{prefix}/metric_depth", json=metric_request, headers=bearer)
        assert answer.status_code == 200
    for path in (
        "/depthhealth",
        "/depth/depth/health",
        "/depth",
        "/v1",
        "/v1/v1/health",
        "/v1/docs/x",
        "/health/depth",
    ):
        assert httpx.get(url + path).status_code == 401, path
        assert httpx.get(url + path, headers=bearer).status_code == 404, path


def test_a_page_elsewhere_may_call_where_its_origin_is_allowed(
    serve_app: Callable[..., str], metric_request: Json
) -> None:
    url = serve_app(cors_allow_origins=(PAGE,), api_key=SecretStr(KEY))
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, x-deadline-ms"}
    preflight = httpx.options(f"{url}/metric_depth", headers={"Origin": PAGE, **asks})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    answer = httpx.post(
        f"{url}/metric_depth", json=metric_request, headers={"Origin": PAGE, "Authorization": f"Bearer {KEY}"}
    )
    refused = httpx.post(f"{url}/metric_depth", json=metric_request, headers={"Origin": PAGE})
    assert (answer.status_code, refused.status_code) == (200, 401)
    for response in (answer, refused):
        assert response.headers["access-control-allow-origin"] == PAGE
        shown = {name.strip().lower() for name in response.headers["access-control-expose-headers"].split(",")}
        given = {name for name in response.headers if name.startswith("x-")}
        assert given <= shown
    stranger = httpx.options(f"{url}/metric_depth", headers={"Origin": "https://other.example", **asks})
    assert stranger.status_code == 400
    assert "access-control-allow-origin" not in stranger.headers


def test_pages_elsewhere_are_not_allowed_by_default(http: httpx.Client) -> None:
    assert "access-control-allow-origin" not in http.get("/livez", headers={"Origin": PAGE}).headers


def test_the_host_of_any_ipv6_serves_ipv4_too() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with open_listener("::", 0) as listener:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, listener.getsockname()[1]), timeout=5):
                listener.accept()[0].close()
