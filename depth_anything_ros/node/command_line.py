"""The command line of a node's program: `--help`, and mistakes named in one line before anything starts.

ROS itself silently drops what stands before `--ros-args`, and answers a bad parameter file with a traceback.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from textwrap import fill
from typing import Any, NoReturn

from rclpy.utilities import remove_ros_args

from depth_anything_ros.errors import plain_line, quoted
from depth_anything_ros.node.parameter_table import Parameter, allowed_values, ros_default

WIDTH = 110
# What rcl says about arguments that it cannot parse, and where in its sources it says so.
FILE_PROBLEM = re.compile(r"Couldn't parse params file: '--params-file (?P<file>.*)'\. Error: (?P<why>.*)", re.DOTALL)
RULE_PROBLEM = re.compile(r"Couldn't parse (?P<what>parameter override|remap) rule: '(?P<rule>.*)'\. Error:", re.DOTALL)
SOURCE_PLACE = re.compile(r", at \S+:\d+")
RULES = {"parameter override": "-p NAME:=VALUE", "remap": "-r FROM:=TO"}


@dataclass(frozen=True)
class Program:
    """What a node's program is called, and what `--help` says about it.

    Attributes:
        executable: as `ros2 run` has it.
        node: the node's name.
        about: what it does, in a sentence or two.
        parameters, defaults: the table, and a setting for every name in it.
    """

    executable: str
    node: str
    about: str
    parameters: Mapping[str, Parameter]
    defaults: Mapping[str, Any]

    def exit_with(self, problem: str) -> NoReturn:
        """End the process with status 2 and one line."""
        print(f"{self.node}: {' '.join(problem.split())}", file=sys.stderr)
        sys.exit(2)

    def help(self) -> str:
        """Return the text of `--help`."""
        options = "--ros-args [-p NAME:=VALUE]... [-r TOPIC:=OTHER]... [--params-file FILE]"
        lines = [f"usage: {self.executable} [-h] [{options}]", "", fill(self.about, WIDTH), "", "parameters:"]
        for name, parameter in self.parameters.items():
            default = ros_default(parameter, self.defaults[name])
            lines.append(f"  {name} (default: {'not set' if default is None else repr(default)})")
            text = " ".join(filter(None, (parameter.description, allowed_values(parameter))))
            lines.append(fill(text, WIDTH, initial_indent="      ", subsequent_indent="      "))
        return "\n".join(lines)


def check_arguments(program: Program, arguments: Sequence[str] | None) -> None:
    """Print the help where it is asked for; refuse what ROS would drop. Ends the process in both cases.

    Args:
        program: whose arguments they are.
        arguments: those after the program's name; None for the process's own.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    ours = given[: given.index("--ros-args")] if "--ros-args" in given else given
    if "-h" in ours or "--help" in ours:
        print(program.help())
        sys.exit(0)
    try:
        left = remove_ros_args([program.executable, *given])[1:]
    except Exception:  # rcl cannot parse them, and says why when it starts
        left = ours
    # rcl takes NAME:=VALUE without --ros-args for a remapping, so a parameter given like that would be lost.
    left += [argument for argument in ours if argument.partition(":=")[0] in program.parameters and ":=" in argument]
    if left:
        program.exit_with(f"unknown argument {quoted(left[0])}; {_what_to_write(program, left[0])}")


def _what_to_write(program: Program, argument: str) -> str:
    name, _, value = argument.lstrip("-").replace(":=", "=").partition("=")
    if argument in ("-p", "-r", "--params-file", "--param", "--remap"):
        return f"write --ros-args before {argument}"
    if name := nearest(name.replace("-", "_"), program.parameters):
        return f"write --ros-args -p {name}:={value or 'VALUE'}"
    if ":=" in argument:
        return f"write --ros-args -r {argument} to remap a topic"
    return "parameters are given by --ros-args -p NAME:=VALUE; --help lists them"


def nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Return the known name that is most like a misspelt one; empty where none is."""
    return next(iter(get_close_matches(name, list(known), 1)), "")


def explain_start_error(error: Exception) -> str:
    """Shorten rcl's error about arguments that it cannot parse."""
    text = SOURCE_PLACE.sub("", str(error)).removeprefix("failed to initialize rcl: ")
    if found := FILE_PROBLEM.search(text):
        file = found["file"]
        reason = found["why"] if Path(file).is_file() else "there is no such file"
        return f"the parameter file '{plain_line(file)}' cannot be read: {reason}"
    if found := RULE_PROBLEM.search(text):
        return f"{quoted(found['rule'])} cannot be read; write {RULES[found['what']]}"
    if type(error).__name__ == "UnknownROSArgsError":
        return f"unknown arguments after --ros-args: {text}; --help lists the options"
    return text
