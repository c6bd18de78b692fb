"""Clients that ask a bridge for depth without a pause: `python -m benchmarks._crowd`, a process of its own.

Standard input has one JSON object, `Crowd`; standard output gets one, `Answers`.
"""

from __future__ import annotations

import json
import sys
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection
from random import random

IMPATIENT_S = 0.05


@dataclass(frozen=True)
class Crowd:
    """What to do.

    Attributes:
        body: the image, base64.
        deadline_ms: of each request, which says so.
        heeds: wait after a refusal as `Retry-After` says, otherwise 50 ms.
        seconds: in which requests begin.
    """

    port: int
    body: str
    clients: int
    deadline_ms: int
    heeds: bool
    seconds: float


@dataclass
class Answers:
    """Seconds that answers and refusals took, from the first byte sent to the last received; other statuses."""

    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    others: list[int] = field(default_factory=list)
    took_s: float = 0.0


def main() -> None:
    """Run the crowd."""
    crowd, answers = Crowd(**json.load(sys.stdin)), Answers()
    began_s = time.perf_counter()
    with ThreadPoolExecutor(crowd.clients) as pool:
        for done in [pool.submit(ask, crowd, began_s + crowd.seconds, answers) for _ in range(crowd.clients)]:
            done.result()
    answers.took_s = time.perf_counter() - began_s
    json.dump(asdict(answers), sys.stdout)


def ask(crowd: Crowd, end_s: float, answers: Answers) -> None:
    """Be one client."""
    body = b64decode(crowd.body)
    headers = {
        "Content-Type": "image/jpeg",
        "Accept": "application/octet-stream",
        "X-Deadline-Ms": str(crowd.deadline_ms),
    }
    connection = HTTPConnection("127.0.0.1", crowd.port, timeout=60)
    while (sent_s := time.perf_counter()) < end_s:
        connection.request("POST", "/metric_depth", body, headers)
        response = connection.getresponse()
        response.read()
        took_s = time.perf_counter() - sent_s
        if response.status == 200:
            answers.answered_s.append(took_s)
        elif response.status == 503:
            answers.refused_s.append(took_s)
            time.sleep(int(response.getheader("Retry-After", "1")) + random() if crowd.heeds else IMPATIENT_S)
        else:
            answers.others.append(response.status)
    connection.close()


if __name__ == "__main__":
    main()
