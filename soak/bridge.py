"""The bridge with two workers and the toy encoder under steady traffic, disturbed every 20 seconds.

Fails, with exit status 1 and the reasons, if memory or latency drifts upwards (`verdict`), if an answer is wrong, if
one is missing while nothing is disturbed, if the server has counted other answers than its clients, or if it dies.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from bridge.server.auth import make_key
from soak.command import run_soak
from soak.rounds import Disturbance, Record, soak
from soak.strangers import abandon_requests, send_nonsense
from soak.traffic import Traffic
from soak.verdict import MEMORY_MIB, Sample

START_S, END_S, RELOAD_S = 60.0, 40.0, 5.0
LOOK_S = 0.05
WORKERS = 2
OPTIONS = (
    "--default-encoder=toy",
    "--default-input-size=56",
    "--checkpoint=untrained",
    "--backend=torch",
    "--max-models=4",  # fewer than are asked for
    "--max-waiting=16",
    "--host=127.0.0.1",
    "--port=0",
    f"--workers={WORKERS}",
)
# Memory grows while every model of every size comes for the first time. A shorter run sees only gross leaks.
FULL_MINUTES, FILLING_MIB = 30.0, 80.0
FRESH_CONNECTIONS = 8  # so many in a row reach every worker, as good as always


class BridgeSoak:
    """A bridge and its clients. Both end with `stop`.

    Args:
        log: where the server's log goes; its key file lies beside it.
    """

    def __init__(self, log: Path, seed: int) -> None:
        self._log_path = log
        self._keys = log.with_name("keys")
        self._key, self._key_line = make_key("traffic")
        self._keys.write_text(self._key_line)
        self._passing_key = ""
        self._found: list[str] = []
        environment = os.environ | {"OMP_NUM_THREADS": "1"}  # the toy network is too small to be shared out
        command = [sys.executable, "-m", "bridge", *OPTIONS, f"--api-keys-file={self._keys}"]
        self._log = log.open("wb")
        self._server = subprocess.Popen(command, stdout=self._log, stderr=self._log, env=environment)
        self._supervisor = psutil.Process(self._server.pid)
        self.url = self._wait_for_url()
        self._until(lambda: self._status(self._key) == 200, START_S)
        self.traffic = Traffic(self.url, self._key, seed)

    def _wait_for_url(self) -> str:
        def listening() -> list[str]:
            return [line for line in self._log_path.read_text().splitlines() if "listening on" in line]

        self._until(lambda: bool(listening()), START_S)
        return f"http://127.0.0.1:{int(''.join(filter(str.isdigit, listening()[0].rpartition(':')[2])))}"

    def _until(self, seen: Callable[[], bool], timeout_s: float) -> bool:
        """Look again and again; time in which this process is stopped does not count."""
        for _ in range(int(timeout_s / LOOK_S)):
            if (found := seen()) or self._server.poll() is not None:
                return found
            time.sleep(LOOK_S)
        return False

    def _status(self, key: str) -> int:
        """Status of a request over a connection of its own; 0 where none came."""
        try:
            return httpx.get(f"{self.url}/models", headers=_bearer(key), timeout=10).status_code
        except httpx.TransportError:
            return 0

    def stop(self) -> list[str]:
        """End everything; return what was wrong with the end."""
        self.traffic.stop()
        problems = self._uncounted()
        self._server.terminate()
        if not self._until(lambda: self._server.poll() is not None, END_S):
            self._server.kill()
        status = self._server.wait()
        self._log.close()
        return problems if status == 0 else [*problems, f"after SIGTERM the bridge ended with status {status}"]

    def counts(self) -> dict[str, int]:
        """Return what became of the requests, as the clients saw it."""
        return dict(self.traffic.counts)

    def _uncounted(self) -> list[str]:
        """Return how the server's count of answers differs from its clients', beyond what a kill may hit."""
        if self.death() is not None:
            return []
        counts = self.traffic.counts
        served = served_in(httpx.get(f"{self.url}/metrics", headers=_bearer(self._key), timeout=10).text)
        taken = counts["answered"] + counts["busy"]
        if abs(served - taken) > counts["lost"]:
            return [f"the server counts {served} answers, its clients {taken}, and {counts['lost']} got none"]
        return []

    # As `rounds.Subject`

    def disturbances(self) -> list[Disturbance]:
        """Return all that can happen to it."""
        return [
            Disturbance("a worker is killed", self._kill_a_worker, self._expect_all_workers),
            Disturbance("keys come and go", self._add_key, self._remove_key),
            Disturbance("the key file is damaged", self._damage_keys, self._mend_keys),
            Disturbance("clients vanish", self._vanish, self._vanish),
            Disturbance("nonsense is sent", self._send_nonsense, self._send_nonsense),
        ]

    def _workers(self) -> list[psutil.Process]:
        """The worker processes, the eldest first."""
        children = [child for child in self._supervisor.children() if "spawn_main" in " ".join(child.cmdline())]
        return sorted(children, key=lambda process: process.create_time())

    def _kill_a_worker(self) -> None:
        self._workers()[-1].kill()  # the eldest stays: its memory is looked at

    def _expect_all_workers(self) -> None:
        if not self._until(lambda: len(self._workers()) == WORKERS, START_S):
            self._found.append("the killed worker was not replaced")

    def _rewrite_keys(self, *lines: str) -> None:
        self._keys.write_text("\n".join(lines))
        self._server.send_signal(signal.SIGHUP)

    def _add_key(self) -> None:
        self._passing_key, line = make_key("passing")
        self._rewrite_keys(self._key_line, line)
        self._expect(200, self._passing_key, "a key that was added is not known")

    def _remove_key(self) -> None:
        self._rewrite_keys(self._key_line)
        self._expect(401, self._passing_key, "a key that was removed still opens")

    def _damage_keys(self) -> None:
        self._rewrite_keys("no key file \x00")
        time.sleep(RELOAD_S / 5)
        self._expect(200, self._key, "a damaged key file took a key away")

    def _mend_keys(self) -> None:
        self._rewrite_keys(self._key_line)

    def _expect(self, status: int, key: str, otherwise: str) -> None:
        def everywhere() -> bool:
            return all(self._status(key) == status for _ in range(FRESH_CONNECTIONS))

        if not self._until(everywhere, RELOAD_S):
            self._found.append(otherwise)

    def _vanish(self) -> None:
        abandon_requests(self.url, self._key)

    def _send_nonsense(self) -> None:
        self._found += send_nonsense(self.url, self._key)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and self._server.poll() is None:
            time.sleep(min(left_s, 0.2))

    def death(self) -> str | None:
        """Return how the bridge ended, if it did."""
        status = self._server.poll()
        return None if status is None else f"the bridge ended with status {status}"

    def sample(self) -> Sample:
        """Return its state now: memory is that of the supervisor and of the eldest worker."""
        processes = [self._supervisor, *self._workers()[:1]] if self._server.poll() is None else []
        return Sample(sum(process.memory_info().rss for process in processes) / 2**20, self.traffic.latency_ms())

    def complaints(self) -> list[str]:
        """Return what was wrong with answers, with the disturbance, or that none came."""
        found = self._found + self.traffic.problems
        self._found, self.traffic.problems = [], []
        if self.traffic.latency_ms() is None:
            found.append("no request was answered")
        return found


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def served_in(metrics: str) -> int:
    """Read how many requests for depth were answered, whatever the answer, from the text of /metrics."""
    lines = [line for line in metrics.splitlines() if line.startswith("depth_bridge_requests_total{")]
    wanted = [line for line in lines if '_depth"' in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in wanted)


def measure(minutes: float, seed: int, log: Path) -> tuple[Record, dict[str, Any]]:
    """Run the soak of the bridge; return what came of it, and what was counted."""
    subject = BridgeSoak(log, seed)
    record = Record()
    try:
        record = soak(subject, minutes, seed, MEMORY_MIB if minutes >= FULL_MINUTES else FILLING_MIB)
    finally:
        record.problems += subject.stop()
    return record, {"requests": subject.counts()}


if __name__ == "__main__":
    sys.exit(run_soak("bridge", measure, "fastapi", "uvicorn"))
