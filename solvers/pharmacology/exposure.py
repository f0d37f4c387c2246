"""The numbers that describe a curve of concentration, without a model (non-compartmental).

Areas: the linear trapezoidal rule while the level rises, the logarithmic one
while it falls. Terminal slope: the last points, as many as fit a line best.
Source: Gabrielsson & Weiner 2012, doi:10.1007/978-1-62703-050-2_16.
"""

import numpy as np


def area(times: np.ndarray, levels: np.ndarray, is_log_down: bool = True) -> float:
    """Area under `levels` over `times`, in their units."""
    dt, before, after = np.diff(times), levels[:-1], levels[1:]
    linear = 0.5 * dt * (before + after)
    falls = is_log_down & (after < before) & (after > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = dt * (before - after) / np.log(before / after)
    return float(np.where(falls, log, linear).sum())


def terminal_slope(times: np.ndarray, levels: np.ndarray) -> float | None:
    """Rate of the final decline, 1/time: of the last n >= 3 points after the peak, those with the best fit.

    The best fit has the largest adjusted R^2; among fits within 1e-4 of it, the
    one with most points. None when there is no decline to see.
    """
    last = int(np.flatnonzero(levels > 0)[-1]) if np.any(levels > 0) else 0
    peak = int(np.argmax(levels))
    best: tuple[float, float] | None = None
    for n in range(3, last - peak + 1):
        t, y = times[last - n + 1:last + 1], levels[last - n + 1:last + 1]
        if np.any(y <= 0):
            break
        slope, fit = _line(t, np.log(y))
        if slope < 0 and (best is None or fit >= best[1] - 1e-4):
            best = (-slope, max(fit, best[1]) if best else fit)
    return best[0] if best else None


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and adjusted R^2 of a straight line."""
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    residual, whole = float(((dy - slope * dx) ** 2).sum()), float((dy**2).sum())
    r2 = 1 - residual / whole if whole > 0 else 0.0
    return slope, 1 - (1 - r2) * (len(x) - 1) / (len(x) - 2)


def half_life(times: np.ndarray, levels: np.ndarray) -> float | None:
    """Terminal half-life in the unit of `times`; None when there is no decline to see."""
    slope = terminal_slope(times, levels)
    return None if slope is None else float(np.log(2)) / slope
