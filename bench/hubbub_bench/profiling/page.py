"""Profiles as tables."""

from __future__ import annotations

from collections.abc import Sequence

from .run import Profiled

FUNCTIONS = 14
"""Rows of a table of functions."""


def page(profiles: Sequence[Profiled], version: str, at: str, machine: str) -> str:
    """A part for each profile: areas, then the functions that take most."""
    parts = [f"Hubbub {version}, {at}. {machine}."]
    for one in profiles:
        found = one.profile
        parts += [
            f"#### {one.scenario.title}",
            _time(one),
            _table(one, "area", found.areas.most_common()),
            _table(one, "function", found.functions.most_common(FUNCTIONS)),
        ]
    return "\n\n".join(parts)


def _time(one: Profiled) -> str:
    return (
        f"Processor time for each {one.unit}: {one.microseconds:.2f} µs of the event loop, looked at "
        f"{one.profile.total:,} times, and {one.in_threads:.2f} µs of the threads that write and sync."
    )


def _table(one: Profiled, what: str, counts: Sequence[tuple[str, int]]) -> str:
    rows = [f"| {what} | µs a {one.unit} | share |", "| --- | --- | --- |"]
    for name, count in counts:
        share = one.profile.share(count)
        if share >= 0.005:
            time = share * one.microseconds
            rows.append(f"| {name} | {time:{'.2f' if time >= 0.1 else '.3f'}} | {share:.0%} |")
    return "\n".join(rows)
