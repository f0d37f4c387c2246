"""Small line charts as inline SVG: they take the page's font, scale, print, and carry their own description."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

COLOURS = ("#0b6e99", "#c1440e", "#3b7d23", "#7a4b9a", "#b8860b", "#2f4858", "#c2185b", "#00796b")
"""Distinct in hue and lightness; the first is the baseline's everywhere."""

DASHES = ("", "7 4", "2 3", "9 3 2 3")

WIDTH, HEIGHT = 680, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 14, 40


@dataclass(frozen=True)
class Line:
    """One curve: x, y (n,) with NaN where there is none; low, high (n,) of a band around it."""

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: str = COLOURS[0]
    dash: str = ""  # SVG dash pattern, solid when empty
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes; spans (from, to, name) are shaded along x."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    spans: Sequence[tuple[float, float, str]] = field(default_factory=tuple)
    from_zero: bool = False
    height: int = HEIGHT

    def svg(self) -> str:
        """The chart as a figure with its legend in HTML, or nothing without a finite point."""
        drawn = [line for line in self.lines if np.isfinite(line.y).any()]
        if not drawn:
            return ""
        axes = _Axes(self, drawn)
        about = f"{self.title}: {self.y_label} over {self.x_label}; curves: {', '.join(n.name for n in drawn)}."
        parts = [axes.spans(), axes.grid(), *(axes.band(line) for line in drawn), *(axes.curve(n) for n in drawn)]
        key = "".join(f'<span class="key">{_sample(n)}{escape(n.name)}</span>' for n in drawn)
        legend = f'<div class="keys">{key}</div>' if len(drawn) > 1 or drawn[0].name else ""
        return (f'<figure class="chart"><figcaption>{escape(self.title)}</figcaption>'
                f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(about)}">'
                f"{''.join(parts)}</svg>{legend}</figure>")


def _sample(line: Line) -> str:
    """A short piece of the line, for the legend."""
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    return f'<svg width="26" height="8" aria-hidden="true"><line x1="0" x2="26" y1="4" y2="4" stroke="{line.colour}" ' \
           f'stroke-width="2.5"{dash}/></svg>'


class _Axes:
    """From data to the drawing's coordinates, with round ticks."""

    def __init__(self, chart: Chart, lines: Sequence[Line]) -> None:
        self.chart = chart
        self.x0, self.x1 = _range([line.x[np.isfinite(line.y)] for line in lines])
        bands = [b for line in lines for b in (line.low, line.high) if b is not None]
        low, high = _range([*(line.y for line in lines), *bands])
        low = min(0.0, low) if chart.from_zero else low
        margin = 0.06 * (high - low)
        self.y0 = low if chart.from_zero and low == 0.0 else low - margin
        self.y1 = high + margin

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return self.chart.height - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (self.chart.height - TOP - BOTTOM)

    def curve(self, line: Line) -> str:
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        paths = [f'<polyline points="{self._points(x, y)}"/>' for x, y in _runs(line.x, line.y)]
        return f'<g fill="none" stroke="{line.colour}" stroke-width="2" stroke-linejoin="round"{dash}>' \
               f"{''.join(paths)}</g>"

    def band(self, line: Line) -> str:
        if line.low is None or line.high is None:
            return ""
        shapes = []
        for x, both in _runs(line.x, np.column_stack([line.low, line.high])):
            outline = f"{self._points(x, both[:, 0])} {self._points(x[::-1], both[::-1, 1])}"
            shapes.append(f'<polygon points="{outline}"/>')
        return f'<g fill="{line.colour}" fill-opacity="0.16">{"".join(shapes)}</g>'

    def spans(self) -> str:
        parts = []
        for start, end, name in self.chart.spans:
            a, b = self.x(max(start, self.x0)), self.x(min(end, self.x1))
            parts.append(f'<rect class="span" x="{a:.1f}" y="{TOP}" width="{max(b - a, 1.0):.1f}" '
                         f'height="{self.chart.height - TOP - BOTTOM}"/>'
                         f'<text class="tick" x="{(a + b) / 2:.1f}" y="{TOP + 11}" text-anchor="middle">'
                         f"{escape(name)}</text>")
        return "".join(parts)

    def grid(self) -> str:
        bottom = self.chart.height - BOTTOM
        parts = [f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{self.chart.height - 4}" '
                 f'text-anchor="middle">{escape(self.chart.x_label)}</text>',
                 f'<text class="axis" transform="translate(13 {(TOP + bottom) / 2:.0f}) rotate(-90)" '
                 f'text-anchor="middle">{escape(self.chart.y_label)}</text>',
                 f'<line class="axis-line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>']
        for tick in ticks(self.y0, self.y1, 5):
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                         f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
                         f"{tick_text(tick)}</text>")
        for tick in ticks(self.x0, self.x1, 8):
            parts.append(f'<text class="tick" x="{self.x(tick):.1f}" y="{bottom + 15}" text-anchor="middle">'
                         f"{tick_text(tick)}</text>")
        return "".join(parts)

    def _points(self, x: np.ndarray, y: np.ndarray) -> str:
        return " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in zip(x, y, strict=True))


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round values from low to high."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    text = f"{value:.4g}" if abs(value) < 1e5 else f"{value:.2e}"
    return ("0" if abs(value) < 1e-12 else text).replace("-", "\u2212")


def _range(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    values = np.concatenate([np.asarray(p, float).ravel() for p in parts])
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0))


def _runs(x: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stretches of at least two points without a gap."""
    y2 = y if y.ndim == 2 else y[:, None]
    good = np.isfinite(y2).all(axis=1) & np.isfinite(x)
    edges = np.flatnonzero(np.diff(np.r_[0, good.astype(int), 0]))
    return [(x[a:b], y[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 1]
