"""What the two soaks share as programs: their command line, the line of JSON that they print, their exit status."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import hardware, versions
from soak.rounds import Record

Measure: TypeAlias = Callable[[float, int, Path], tuple[Record, dict[str, Any]]]  # minutes, seed, log
LOG_CHARACTERS = 4000


def run_soak(name: str, measure: Measure, *distributions: str) -> int:
    """Run one soak, print one JSON line, and return the exit status: 1 with the reasons where it failed."""
    arguments = parser(f"soak.{name}", f"The soak of the {name}.").parse_args()
    with tempfile.TemporaryDirectory(prefix="soak_") as folder:
        log = Path(folder) / "log.txt"
        record, counted = measure(arguments.minutes, arguments.seed, log)
        line = {"soak": name, "minutes": arguments.minutes, "seed": arguments.seed, "hardware": hardware(), **counted}
        print(
            json.dumps({**line, **record.summary(), "versions": versions("torch", "numpy", *distributions)}), flush=True
        )
        for problem in record.problems:
            print(f"soak of the {name}: {problem}", file=sys.stderr)
        if record.problems:
            print(log.read_text(errors="replace")[-LOG_CHARACTERS:], file=sys.stderr)
    return 1 if record.problems else 0


def parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Return the command line of a soak."""
    made = argparse.ArgumentParser(prog=program, description=description)
    made.add_argument("--minutes", type=float, default=60.0)
    made.add_argument("--seed", type=int, default=0, help="of the disturbances' order")
    return made
