"""`depth_anything`: one program, one file a subcommand.

Every module here is a subcommand of its own name, except those that begin with `_`, which subcommands share.
A subcommand defines `HELP` (one line), `add_arguments(parser)` and `run(args) -> int`, the exit status. It imports
what is heavy or may be missing inside `run`: `--help` is quick, and `doctor` runs where nothing else does.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

from depth_anything_ros.errors import DepthAnythingError, plain_line
from depth_anything_ros.version import __version__

# What a shell reports for a program that ended by SIGINT (Ctrl-C) or SIGPIPE (`| head`).
INTERRUPTED = 130
PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status. An error is one line on stderr, never a traceback."""
    try:
        args = build_parser().parse_args(argv)
        return _run(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes standard output once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        if not is_interrupt(error):
            raise
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with a subcommand for every module of this package."""
    parser = argparse.ArgumentParser(prog="depth_anything", description="Depth Anything for robots", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    names = (info.name for info in pkgutil.iter_modules(__path__))
    for name in sorted(name for name in names if not name.startswith("_")):
        module = importlib.import_module(f"{__name__}.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__, allow_abbrev=False)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _run(args: argparse.Namespace) -> int:
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except (DepthAnythingError, ImportError) as error:
        if is_interrupt(error):
            raise
        hint = ". `depth_anything doctor` says what to do about it." if isinstance(error, ImportError) else ""
        return _fail(args.command, f"{error}{hint}")


def is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: libraries that are interrupted may raise another one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _fail(command: str, text: str) -> int:
    for line in f"depth_anything {command}: {text}".split("\n"):
        print(plain_line(line), file=sys.stderr)
    return 1
