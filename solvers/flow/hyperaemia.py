"""The same person with the small vessels of the legs dilated, as when peripheral fractional flow reserve is measured.

What is published for arteries of the trunk and legs is the ratio of mean
pressures behind and before a lesion while papaverine (or adenosine), given into
the iliac artery, holds the leg's small vessels open. The pressure before the
lesion hardly changes meanwhile. So here the distal resistance of each leg bed
falls to a part of what it is at rest without any stenosis: a bed that had
widened behind a stenosis has less left to give, which is what the ratio shows.
Large arteries do not dilate (proximal resistance and compliance stay), organs
keep their beds, and the inflow rises until the mean pressure at the inlet is
that of rest. The extra flow is steady: the arterial store smooths what small
vessels draw.

Sources: Kobayashi et al. 2016, doi:10.5551/jat.30957 (peripheral FFR, papaverine; pressure before the lesion);
the factor stands in physiology.toml.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import root_scalar

from solvers.errors import BadInput, DidNotConverge
from solvers.flow import circuit
from solvers.flow.circuit import Numerics, Periodic
from solvers.flow.network import Network
from solvers.flow.outlets import Tuned
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel
from solvers.library import physiology
from solvers.units import MMHG

SOURCES = ["Kobayashi et al. 2016 (peripheral FFR, papaverine), doi:10.5551/jat.30957"]

TOLERANCE = 0.05 * MMHG
"""Of the mean pressure at the inlet."""


@dataclass(frozen=True)
class Dilated:
    """Windkessels by leaf, the leaves whose bed is dilated, the inflow, the beat, and the factor that was taken."""

    outlets: Mapping[int, Windkessel]
    leaves: tuple[int, ...]
    pulse: Pulse
    network: Network
    periodic: Periodic
    factor: float

    @property
    def flows(self) -> dict[int, float]:
        """Mean flow by leaf, m^3/s."""
        return {i: float(self.periodic.out(node).mean()) for i, node in self.network.leaves.items()}


def dilate(build: Callable[[Mapping[int, Windkessel]], Network], rest: Tuned, pulse: Pulse,
           factor: float | None = None, numerics: Numerics = Numerics()) -> Dilated:
    """The legs' beds at maximal flow; pulse: the inflow at rest; factor: of the distal resistance, None: published.

    Raises BadInput `no_leg` when no outlet feeds a leg.
    """
    share = physiology.number("hyperaemia", "limb").value if factor is None else factor
    leaves = tuple(i for i, bed in rest.targets.beds.items() if bed == "limbs")
    if not leaves:
        raise BadInput("no_leg", "no outlet of this vessel was recognised as an artery of the legs",
                       "one whose small vessels a drug can dilate", "Leave the state at rest.")
    beds = {i: _widened(rest, i, share) if i in leaves else bed for i, bed in rest.outlets.items()}
    network = build(beds)
    more = _extra(network, pulse, rest.achieved.mean, _gained(rest, beds), numerics)
    raised = _raised(pulse, more)
    return Dilated(beds, leaves, raised, network, circuit.solve(network.circuit, raised, numerics), share)


def _widened(rest: Tuned, leaf: int, share: float) -> Windkessel:
    bed = rest.outlets[leaf]
    healthy = (rest.achieved.mean - bed.venous) / rest.targets.flows[leaf] - bed.proximal
    return replace(bed, distal=min(healthy / share, bed.distal))


def _gained(rest: Tuned, beds: Mapping[int, Windkessel]) -> float:
    """Extra flow (m^3/s) if nothing were lost on the way to the beds."""
    return sum((rest.achieved.mean - b.venous) / b.resistance - rest.achieved.flows[i] for i, b in beds.items())


def _extra(network: Network, pulse: Pulse, mean: float, guess: float, numerics: Numerics) -> float:
    """Steady flow on top of the pulse (m^3/s) that brings the inlet's mean pressure (Pa) to that of rest."""
    def off(more: float) -> float:
        found = circuit.solve(network.circuit, _raised(pulse, more), numerics)
        return float(found.at(network.circuit.inlet).mean()) - mean

    found = root_scalar(off, x0=guess, x1=0.9 * guess + 1e-3 * pulse.mean, xtol=1e-4 * pulse.mean, maxiter=20)
    if not found.converged or abs(off(found.root)) > TOLERANCE:
        raise DidNotConverge("pressure_not_reached", "with the legs' beds dilated no inflow keeps the mean pressure at "
                             "the inlet", f"{mean / MMHG:.0f} mmHg", "Leave the state at rest.")
    return float(found.root)


def _raised(pulse: Pulse, more: float) -> Pulse:
    return Pulse(pulse.period, np.asarray(pulse.flow) + more)
