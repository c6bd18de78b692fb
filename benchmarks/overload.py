"""What is left of the bridge's rate when three times as many clients ask as it can serve within their deadline.

First as many clients as the deadline allows ask without a pause: the best rate. Then three times as many, each with
that deadline (`X-Deadline-Ms`): once they wait after a refusal as `Retry-After` says, and once they ask again after 50
ms. Goodput is the rate of answers within the deadline. The time of a refusal is from the first byte sent to the last
received. The clients run in a process of their own, on the same cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from base64 import b64encode
from dataclasses import asdict
from typing import Any

from benchmarks import report, spread_ms, versions
from benchmarks._crowd import Answers, Crowd
from benchmarks._pictures import picture
from benchmarks.bridge import jpeg_of, running_server

TIMES = 3
ALONE = 2  # clients that keep the device busy: one is served while the next one's image travels


def main(argv: list[str]) -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="benchmarks overload", description=__doc__)
    parser.add_argument("--encoder", default="toy")
    parser.add_argument("--deadline-s", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=15.0, help="in which requests begin, of each crowd")
    args = parser.parse_args(argv)
    body, deadline_ms = b64encode(jpeg_of(picture(480, 640))).decode(), round(1000 * args.deadline_s)
    with running_server(args.encoder) as port:

        def crowd(clients: int, *, heeds: bool, seconds: float = args.seconds) -> Answers:
            return run(Crowd(port, body, clients, deadline_ms, heeds, seconds))

        crowd(ALONE, heeds=True, seconds=args.seconds / 4)  # for what is built at first
        alone = crowd(ALONE, heeds=True, seconds=args.seconds / 2)
        served = max(ALONE, int(0.8 * args.deadline_s * len(alone.answered_s) / alone.took_s))
        best = crowd(served, heeds=True)
        crowds = {heeds: crowd(TIMES * served, heeds=heeds) for heeds in (True, False)}
    best_hz = goodput_hz(best, args.deadline_s)
    report(
        "overload",
        versions=versions("fastapi", "uvicorn", "torch"),
        encoder=args.encoder,
        deadline_s=args.deadline_s,
        best={"clients": served, **summary(best, args.deadline_s, best_hz)},
        overloaded={
            ("heeds Retry-After" if heeds else "asks again after 50 ms"): {
                "clients": TIMES * served,
                **summary(answers, args.deadline_s, best_hz),
            }
            for heeds, answers in crowds.items()
        },
    )


def run(crowd: Crowd) -> Answers:
    """Let the clients ask, in a process of their own."""
    command = [sys.executable, "-m", "benchmarks._crowd"]
    done = subprocess.run(command, input=json.dumps(asdict(crowd)), capture_output=True, text=True, check=True)
    return Answers(**json.loads(done.stdout))


def goodput_hz(answers: Answers, deadline_s: float) -> float:
    """Answers within the deadline, a second."""
    return sum(took_s <= deadline_s for took_s in answers.answered_s) / answers.took_s


def summary(answers: Answers, deadline_s: float, best_hz: float) -> dict[str, Any]:
    """Rates in Hz, times in milliseconds."""
    goodput = goodput_hz(answers, deadline_s)
    return {
        "goodput_hz": round(goodput, 2),
        "share_of_best": round(goodput / best_hz, 3),
        "too_late": sum(took_s > deadline_s for took_s in answers.answered_s),
        "latency": spread_ms(answers.answered_s),
        "refused": len(answers.refused_s),
        "refusal": spread_ms(answers.refused_s),
        "other_statuses": answers.others,
    }
