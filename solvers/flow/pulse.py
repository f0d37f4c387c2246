"""A periodic flow, or pressure."""

from dataclasses import dataclass

import numpy as np

from solvers.errors import BadInput

JUMP = 0.7
"""A step between neighbours (the last and the first too) of more than this part of the range is a jump."""
FEWEST = 8
"""Times from which on steps are judged."""


@dataclass(frozen=True)
class Pulse:
    """Periodic inflow: m^3/s at equal times over one period (s), beginning at time 0; time `period` is left out.

    The pressure around a squeezed vessel is told in the same way, in Pa.

    Raises BadInput `bad_waveform` when a number is not finite or the period is
    not above zero, `waveform_jumps` when the flow jumps, as it does where a
    beat does not end as it began.
    """

    period: float
    flow: np.ndarray

    def __post_init__(self) -> None:
        flow = self.flow
        if not (flow.ndim == 1 and len(flow) and np.isfinite(flow).all() and np.isfinite(self.period)
                and self.period > 0):
            raise BadInput("bad_waveform", f"a beat of {self.period:.4g} s with {flow.size} flows, "
                           f"{np.isfinite(flow).sum()} of them finite", "finite flows over a period above zero")
        step = np.abs(np.diff(flow, append=flow[0]))
        if len(flow) >= FEWEST and step.max() > JUMP * np.ptp(flow):
            raise BadInput("waveform_jumps", f"the flow changes by {step.max() / np.ptp(flow):.0%} of its range after "
                           f"time {self.period * step.argmax() / len(flow):.3g} s", f"at most {JUMP:.0%}",
                           "Give the beat at more times, and let it end as it began.")

    @property
    def mean(self) -> float:
        """The flow's mean over the period, m^3/s."""
        return float(np.mean(self.flow))

    def at(self, n: int) -> np.ndarray:
        """The flow at n equal times over the period, by trigonometric interpolation, (n,)."""
        return self._sum(np.arange(n) / n, n)

    def moment(self, time: float) -> float:
        """The flow at a time, s, by trigonometric interpolation."""
        return float(self._sum(np.array([time / self.period]), len(self.flow))[0])

    def _sum(self, phase: np.ndarray, n: int) -> np.ndarray:
        """At parts of the period (k,), of the frequencies that n equal times hold."""
        modes = np.fft.rfft(self.flow) / len(self.flow)
        if len(self.flow) % 2 == 0:
            modes[-1] *= 0.5  # stands for two: the highest frequency of an even number of times
        keep = len(modes) if n >= len(self.flow) else (n + 1) // 2
        waves = 2 * np.exp(2j * np.pi * np.outer(phase, np.arange(1, keep))) * modes[1:keep]
        return modes[0].real + waves.sum(axis=1).real
