"""What may follow an outlet of the 3D flow: a Windkessel, or any circuit, a coronary bed among them.

The 3D step asks a bed two things. Before the step: which pressure does it show
for a flow at the step's end, as base + slope * flow? After it: what does it
remember, now that the flow is known? Both are implicit, so that a bed's own
short times set no limit to the step.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from solvers.flow import circuit
from solvers.flow.bdf import Weights
from solvers.flow.circuit import Circuit, Numerics, Reduced, Segment, System
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Memory, Windkessel

NUDGE = 1e-3
"""Of the flow, to tell how a bed's pressure rises with it; exact where no segment has a quadratic loss."""


class Bed(Protocol):
    """What follows an outlet."""

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        ...

    def at_rest(self, pressure: float) -> Memory:
        """What it remembers after long rest under a pressure, Pa."""
        ...

    def affine(self, stored: Memory, before: float, dt: float) -> tuple[float, float]:
        """Pressure after `dt` as base + slope * flow then, for outflow `before` now: Pa, Pa s/m^3."""
        ...

    def stored(self, stored: Memory, before: float, after: float, dt: float) -> Memory:
        """What it remembers after `dt`, when the outflow is `after`."""
        ...


@dataclass(frozen=True)
class CircuitBed:
    """A circuit that is fed by an outlet: its inlet is the outlet.

    Memory (2 unknowns + 2,): the unknowns at the last two steps, the last step's
    length (s) and the time (s), from which squeezed vessels know where in the
    beat they are. BDF2 with steps that may change.
    """

    circuit: Circuit
    start: float = 0.0
    """Time at rest, s."""

    @cached_property
    def _system(self) -> System:
        return circuit.assemble(self.circuit)

    @cached_property
    def _solvers(self) -> dict[tuple[float, float], Reduced]:
        return {}

    def check(self) -> None:
        circuit.check(self.circuit)

    def at_rest(self, pressure: float) -> np.ndarray:
        n, size = len(self.circuit.nodes), len(self._system.M)
        x = np.zeros(size)
        x[:n] = x[size - len(self.circuit.outlets):] = pressure
        return np.concatenate([x, x, [0.0, self.start]])

    def affine(self, stored: Memory, before: float, dt: float) -> tuple[float, float]:
        nudge = NUDGE * max(abs(before), 1e-9)
        low, high = (float(self._after(stored, q, dt)[self._system.feed]) for q in (before, before + nudge))
        slope = (high - low) / nudge
        return low - slope * before, slope

    def stored(self, stored: Memory, before: float, after: float, dt: float) -> np.ndarray:
        memory = np.asarray(stored)
        x = memory[:len(self._system.M)]
        return np.concatenate([self._after(stored, after, dt), x, [dt, memory[-1] + dt]])

    def _after(self, stored: Memory, flow: float, dt: float) -> np.ndarray:
        """The unknowns after `dt` under an inflow, m^3/s."""
        system, memory = self._system, np.asarray(stored)
        size, (last, time) = len(system.M), memory[-2:]
        weights = Weights(dt, dt / last if last else 1.0)
        now, old, older = (self._around(t) for t in (time + dt, time, time - (last or dt)))
        past = weights.past(memory[:size] - old, memory[size:2 * size] - older)
        known = system.M @ (past + weights.now * now) / dt - system.constant
        known[system.feed] += flow
        return self._solver(weights).solve(known, memory[:size][system.flows])

    def _around(self, time: float) -> np.ndarray:
        """Pressure around squeezed nodes, (unknowns,)."""
        found = np.zeros(len(self._system.M))
        for node, pulse in self._system.squeezed.items():
            found[node] = pulse.moment(time)
        return found

    def _solver(self, weights: Weights) -> Reduced:
        key = (round(weights.now, 9), float(f"{weights.dt:.9g}"))
        if key not in self._solvers:
            self._solvers[key] = Reduced(self._system, self._system.A + weights.now / weights.dt * self._system.M,
                                         Numerics())
        return self._solvers[key]


@dataclass(frozen=True)
class Coronary:
    """Resistances, Pa s/m^3: of the arteries, of the small ones, of the veins; compliances, m^3/Pa: of the arteries,
    and within the wall, around which `muscle` presses, Pa; venous pressure, Pa.

    Source: Kim et al. 2010, doi:10.1007/s10439-010-0083-6.
    """

    arterial: float
    small: float
    veins: float
    compliance: float
    compliance_within: float
    muscle: Pulse
    venous: float = 0.0

    @property
    def circuit(self) -> Circuit:
        """The bed; it is fed at `outlet`."""
        segments = (Segment("outlet", "arteries", self.arterial), Segment("arteries", "within", self.small))
        return Circuit(segments, "outlet", {"within": Windkessel(self.veins, 0.0, 0.0, self.venous)},
                       {"arteries": self.compliance, "within": self.compliance_within}, {"within": self.muscle})
