"""Line charts as SVG text: axes, curves, a legend, and nothing to install. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 44, 56
_FONT = 'font-family="sans-serif"'
_COLOURS = ("#0b6fa4", "#d1495b", "#2e933c", "#8d5a97", "#c77d0a", "#4a5859")

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """One of the two, and how values lie on it."""

    label: str
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    """Places and what stands there; without any, round numbers."""


def chart(title: str, x: Axis, y: Axis, curves: dict[str, Points]) -> str:
    """A picture of the curves, by name. The y axis begins at 0 unless it is logarithmic."""
    points = [point for curve in curves.values() for point in curve]
    across = _Scale(x, [at for at, _ in points], _LEFT, WIDTH - _RIGHT, from_zero=False)
    up = _Scale(y, [value for _, value in points], HEIGHT - _BOTTOM, _TOP, from_zero=True)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12" {_FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for at, text in up.ticks():
        parts += [
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>',
        ]
    for at, text in across.ticks():
        parts += [
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}" stroke="#eee"/>',
            f'<text x="{at:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(text)}</text>',
        ]
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts += [
        f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 18}" text-anchor="middle">{escape(x.label)}</text>',
        f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(y.label)}</text>',
    ]
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line = " ".join(f"{across.place(at):.1f},{up.place(value):.1f}" for at, value in curve)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(curve) <= 20:
            parts += [
                f'<circle cx="{across.place(at):.1f}" cy="{up.place(value):.1f}" r="3" fill="{colour}"/>'
                for at, value in curve
            ]
        parts.append(f'<text x="{_LEFT + 8 + 180 * number}" y="{_TOP - 8}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """Values to pixels."""

    def __init__(self, axis: Axis, values: Sequence[float], begin: float, end: float, *, from_zero: bool) -> None:
        self._axis = axis
        self._begin, self._end = begin, end
        known = [self._flat(value) for value in values if value > 0 or not axis.log] or [0.0, 1.0]
        self._low, self._high = min(known), max(known)
        if axis.log and from_zero:
            self._low, self._high = floor(self._low), ceil(self._high)
        elif from_zero:
            self._low, self._high = 0.0, self._high * 1.08
        if self._high <= self._low:
            self._high = self._low + 1.0

    def place(self, value: float) -> float:
        share = (self._flat(value) - self._low) / (self._high - self._low)
        return self._begin + min(1.0, max(0.0, share)) * (self._end - self._begin)

    def ticks(self) -> list[tuple[float, str]]:
        if self._axis.ticks:
            inside = [one for one in self._axis.ticks if self._low - 1e-9 <= self._flat(one[0]) <= self._high + 1e-9]
            return [(self.place(value), text) for value, text in inside]
        if self._axis.log:
            return [
                (self.place(10.0**power), _short(10.0**power))
                for power in range(ceil(self._low), floor(self._high) + 1)
            ]
        step = _round_step((self._high - self._low) / 5)
        first = ceil(self._low / step)
        return [(self.place(n * step), _short(n * step)) for n in range(first, floor(self._high / step) + 1)]

    def _flat(self, value: float) -> float:
        return log10(max(value, 1e-12)) if self._axis.log else value


def _round_step(rough: float) -> float:
    power = 10.0 ** floor(log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _short(value: float) -> str:
    for scale, letter in ((1e6, " M"), (1e3, " k")):
        if value >= scale:
            return f"{value / scale:g}{letter}"
    return f"{value:g}"
