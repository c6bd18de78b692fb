"""Write test/data/rosdep_keys.json anew: what rosdep makes of package.xml's keys on the platforms that are supported.

git clone --depth 1 https://github.com/ros/rosdistro && python test/refresh_rosdep_keys.py rosdistro
"""

from __future__ import annotations

import json
import re
import sys
from datetime import date
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
KEYS = Path(__file__).with_name("data") / "rosdep_keys.json"
# ROS distribution -> operating systems (name, release, package manager) that it is installed on.
PLATFORMS = {
    "humble": [("ubuntu", "jammy", "apt")],
    "jazzy": [("ubuntu", "noble", "apt"), ("rhel", "9", "dnf")],
    "kilted": [("ubuntu", "noble", "apt"), ("rhel", "9", "dnf")],
    "lyrical": [("ubuntu", "resolute", "apt")],
    "rolling": [("ubuntu", "resolute", "apt")],
}


def keys_of(manifest: str) -> list[str]:
    """Return the names of everything that a package.xml depends on."""
    return sorted(set(re.findall(r"<\w*depend[^>]*>([^<]+)</\w*depend>", manifest)))


def installer(rule: Any, release: str, manager: str) -> str | None:
    """Return which package manager installs a key by its rule for an operating system; None where there is none."""
    if isinstance(rule, list):
        return manager
    if not isinstance(rule, dict):
        return None
    if release in rule or "*" in rule:
        return installer(rule.get(release, rule.get("*")), release, manager)
    return next((name for name in ("pip", "apt", "dnf", "yum") if name in rule), None)


def answers(rosdistro: Path, keys: list[str]) -> dict[str, dict[str, str | None]]:
    """Return platform -> key -> what installs it: the ROS distribution, a package manager, or nothing (None)."""
    rules: dict[str, Any] = {}
    for name in ("base", "python"):
        rules |= yaml.load((rosdistro / "rosdep" / f"{name}.yaml").read_text(), yaml.CSafeLoader)
    found: dict[str, dict[str, str | None]] = {}
    for distribution, systems in PLATFORMS.items():
        text = (rosdistro / distribution / "distribution.yaml").read_text()
        repositories = yaml.load(text, yaml.CSafeLoader)["repositories"]
        released = {
            package
            for name, repository in repositories.items()
            for package in repository.get("release", {}).get("packages", [name])
            if "version" in repository.get("release", {})
        }
        for system, release, manager in systems:
            found[f"{distribution} on {system} {release}"] = {
                key: "ros" if key in released else installer(rules.get(key, {}).get(system), release, manager)
                for key in keys
            }
    return found


def main() -> None:
    """Read a clone of ros/rosdistro, the only argument."""
    found = answers(Path(sys.argv[1]), keys_of((ROOT / "package.xml").read_text()))
    content = {"date": date.today().isoformat(), "platforms": found}
    KEYS.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
