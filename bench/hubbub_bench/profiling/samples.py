"""Samples of a profiler as shares of functions and areas. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")
MAIN = "MainThread"
ELSEWHERE = "event loop, system calls, interpreter"
"""What has no function of ours at its top: the kernel's part of reading sockets, mostly."""


@dataclass(frozen=True)
class Profile:
    """Where samples of the event loop's thread were, each counted once: at the function on top."""

    total: int
    areas: Counter[str]
    functions: Counter[str]

    def share(self, count: int) -> float:
        """Of all samples."""
        return count / self.total if self.total else 0.0


def parse(text: str) -> Profile:
    """From lines of `thread;caller (file:line);…;function (file:line) count`."""
    areas: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if not count.isdigit() or MAIN not in frames[0]:
            continue  # other threads wait for the disk, which a sample can't tell from work
        area, function = _top(frames)
        areas[area] += int(count)
        functions[function] += int(count)
    return Profile(areas.total(), areas, functions)


def _top(frames: list[str]) -> tuple[str, str]:
    """The area and the function that the topmost frame of ours is in."""
    match = _FRAME.match(frames[-1])
    if match is None:
        return ELSEWHERE, ELSEWHERE
    for package in ("hubbub_broker/", "hubbub_protocol/"):
        _, found, rest = match["file"].rpartition(package)
        if found:
            folder, slash, _ = rest.partition("/")
            area = (folder if slash else "top") if package == "hubbub_broker/" else "protocol"
            where = rest if package == "hubbub_broker/" else f"{area}/{rest}"
            return area, f"`{where}` `{match['function']}`"
    return ELSEWHERE, f"{ELSEWHERE}: `{match['function']}`"
