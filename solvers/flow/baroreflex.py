"""The arterial baroreflex: pressure is sensed, and heart rate, contractility, resistance and veins respond.

Baroreceptors fire along a sigmoid of the mean pressure; sympathetic nerves the
less, vagal nerves the more they fire. Each effector follows at first order,
and all are at rest at the set point. The reflex acts from beat to beat: what
is sensed is the mean over a beat.

Source: Ursino 1998, doi:10.1152/ajpheart.1998.275.5.H1733 (without its pure delays, which change no settled state).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from solvers.errors import BadInput
from solvers.flow.closed_loop import Loop

SOURCES = ["Ursino 1998 (baroreflex), doi:10.1152/ajpheart.1998.275.5.H1733"]


@dataclass(frozen=True)
class Nerves:
    """Rates in 1/s: afferent ones by pressure (width in Pa), sympathetic and vagal ones by these."""

    width: float
    afferent_least: float
    afferent_most: float
    sympathetic_end: float
    sympathetic_silent: float
    sympathetic_steepness: float
    sympathetic_threshold: float
    vagal_least: float
    vagal_most: float
    vagal_middle: float
    vagal_width: float


@dataclass(frozen=True)
class Times:
    """Time constants of the first-order responses, s."""

    sensed: float
    resistance: float
    contractility: float
    veins: float
    sympathetic: float
    vagal: float


@dataclass(frozen=True)
class Baroreflex:
    """The reflex about its set point (Pa), sensing a store's mean pressure.

    gain: 1 as published, 0 switched off. resistance (by pipe) and
    contractility (by chamber): relative change per unit of sympathetic drive;
    veins (by vessel): change of the volume without stretch, m^3;
    period_sympathetic s, period_vagal s^2: change of the period; least_period s.
    """

    set_point: float
    nerves: Nerves
    times: Times
    sensor: str
    period_sympathetic: float
    period_vagal: float
    least_period: float
    resistance: Mapping[str, float] = field(default_factory=dict)
    contractility: Mapping[str, float] = field(default_factory=dict)
    veins: Mapping[str, float] = field(default_factory=dict)
    gain: float = 1.0

    def but(self, **changes: object) -> "Baroreflex":
        return replace(self, **changes)  # type: ignore[arg-type]

    def row(self) -> np.ndarray:
        """As heart_kernels has it, (22,)."""
        n, t = self.nerves, self.times
        return np.array([
            self.gain, self.set_point, n.width, n.afferent_least, n.afferent_most, n.sympathetic_end,
            n.sympathetic_silent, n.sympathetic_steepness, n.sympathetic_threshold, n.vagal_least, n.vagal_most,
            n.vagal_middle, n.vagal_width, t.sensed, t.resistance, t.contractility, t.veins, t.sympathetic, t.vagal,
            self.period_sympathetic, self.period_vagal, self.least_period])

    def weights(self, loop: Loop) -> tuple[np.ndarray, np.ndarray]:
        """What each store (s, 2) and each flow without inertia (r,) feels of it."""
        leads = [e.name for e in loop.ordered() if len(e.row()) == 2]
        on_stores = np.array([(self.contractility.get(s, 0.0), self.veins.get(s, 0.0)) for s in loop.stores])
        return on_stores, np.array([self.resistance.get(name, 0.0) for name in leads])


def check(reflex: Baroreflex, loop: Loop) -> None:
    """BadInput `bad_reflex` when a number makes no sense or names nothing of the loop."""
    unknown = ({reflex.sensor, *reflex.contractility, *reflex.veins} - set(loop.stores)) | (
        set(reflex.resistance) - set(loop.flows))
    if unknown:
        raise BadInput("bad_reflex", f"the reflex acts on {', '.join(sorted(unknown))}", "elements of the circulation")
    row = reflex.row()
    if not (np.isfinite(row).all() and reflex.gain >= 0 and (row[13:19] > 0).all() and reflex.nerves.width > 0
            and reflex.least_period > 0 and reflex.set_point > 0):
        raise BadInput("bad_reflex", f"the reflex has a gain of {reflex.gain:g} about {reflex.set_point:.4g} Pa",
                       "a gain not below zero; set point, width and times above zero")
