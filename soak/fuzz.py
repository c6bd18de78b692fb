"""A node that is sent nonsense: malformed messages, random sets of parameters, random transitions of its lifecycle.

    python -m soak.fuzz --messages 10000 --parameter-sets 2000 --walks 200

Real processes, topics and services. After each of the three the depth of every camera has to be right, and memory may
have grown by 20 MiB. Prints a line of JSON; the exit status is 1 where something was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import hardware
from soak.fuzzed_node import FuzzedNode, Wrong
from soak.malformed import malformed
from soak.odd_parameters import random_set
from soak.peer import Silence
from soak.walks import random_walk

ALLOWED_GROWTH_MIB = 20.0
WARM_UP_SHARE = 0.2  # of the messages, sets or walks; memory is compared with what is in use after these
LOOK_EVERY = 100  # messages: then good frames are sent, and waited for
LOG_CHARACTERS = 4000

Treatment: TypeAlias = Callable[[FuzzedNode, int, random.Random], dict[str, int]]


def send_malformed(node: FuzzedNode, count: int, rng: random.Random) -> dict[str, int]:
    """Send messages to all topics; now and then wait until they are worked off."""
    inputs = node.inputs()
    for number in range(count):
        topic, good = rng.choice(inputs)
        node.send(topic, malformed(good, rng), type(good))
        if number % LOOK_EVERY == LOOK_EVERY - 1:
            node.check_depth()
    return {"messages": count}


def set_parameters(node: FuzzedNode, count: int, rng: random.Random) -> dict[str, int]:
    """Set random parameters, one by one or all at once, and then what was there before."""
    before = node.parameters()
    taken = [is_taken for _ in range(count) for is_taken in node.set(random_set(rng), together=rng.random() < 0.5)]
    node.restore(before)
    return {"sets": count, "values_taken": sum(taken), "values_refused": len(taken) - sum(taken)}


def walk(node: FuzzedNode, count: int, rng: random.Random) -> dict[str, int]:
    """Walk through the lifecycle while images come."""
    steps = [step for _ in range(count) for step in random_walk(rng)]
    with node.under_load():
        for step in steps:
            node.step(step)
    return {"walks": count, "transitions": len(steps), "refused": sum(not step.succeeds for step in steps)}


TREATMENTS: dict[str, Treatment] = {"messages": send_malformed, "parameter_sets": set_parameters, "walks": walk}


def treat(node: FuzzedNode, treatment: Treatment, count: int, rng: random.Random) -> dict[str, float]:
    """Give a node one treatment; return what was counted, and what memory it took. Raises Wrong or Silence."""
    warm_up = round(WARM_UP_SHARE * count)
    treatment(node, warm_up, rng)
    node.check_depth()
    before_mib = node.memory_mib()
    counted = treatment(node, count - warm_up, rng)
    node.check_depth()
    growth_mib = node.memory_mib() - before_mib
    if growth_mib > ALLOWED_GROWTH_MIB:
        raise Wrong(f"memory grew by {growth_mib:.1f} MiB; allowed: {ALLOWED_GROWTH_MIB:g}")
    return {**counted, "memory_mib": round(before_mib, 1), "growth_mib": round(growth_mib, 1)}


def run(counts: dict[str, int], seed: int, log: Path) -> tuple[dict[str, Any], list[str]]:
    """Give one node all treatments; return what was counted, and what was wrong."""
    found: dict[str, Any] = {}
    node, name = FuzzedNode(log), "start"
    try:
        node.check_depth()
        for name, treatment in TREATMENTS.items():
            if counts[name]:
                found[name] = treat(node, treatment, counts[name], random.Random(seed))
        name = "end"
        node.stop()
    except (Wrong, Silence) as error:
        return found, [f"{name}: {error}"]
    finally:
        node.close()
    return found, []


def main() -> int:
    """Run, print one JSON line, and return the exit status."""
    parser = argparse.ArgumentParser(prog="soak.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--parameter-sets", type=int, default=2_000)
    parser.add_argument("--walks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))  # inherited by the node
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
        log = Path(folder) / "log.txt"
        found, problems = run({name: getattr(arguments, name) for name in TREATMENTS}, arguments.seed, log)
        line = {"fuzz": found, "seed": arguments.seed, "problems": problems, "hardware": hardware()}
        print(json.dumps(line), flush=True)
        for problem in problems:
            print(f"fuzz: {problem}\n{log.read_text(errors='replace')[-LOG_CHARACTERS:]}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
