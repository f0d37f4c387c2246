"""The 1D side: pulse waves in the nominal tree with elastic walls, on the same inflow and outlets, or why not.

Nothing depends on it: where it fails, the 3D and 0D models stand as they are.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.simulate_flow import state
from pipeline.simulate_flow.outside import Outside
from pipeline.simulate_flow.vessel import Vessel
from solvers.errors import AnatwinError, BadInput
from solvers.flow import pulse_wave, pulse_wave_tree
from solvers.flow.navier_stokes import Fluid
from solvers.flow.network import Results
from solvers.flow.pulse_wave import Waves
from solvers.flow.pulse_wave_tree import Elasticity, PulseWaveVelocity, Traced, olufsen1999
from solvers.units import MMHG

SOURCES = [*pulse_wave.SOURCES,
           "Olufsen 1999 (stiffness of arteries by radius), doi:10.1152/ajpheart.1999.276.1.H257"]
MODEL = "1D"
FASTEST = 100.0
"""Waves at this speed (m/s) leave walls as good as rigid, and time steps grow in number with it."""


Curves = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class One:
    """The 1D model of the nominal tree and its beat; around: inflow and outlets; assumed: what nobody measured of its
    walls."""

    traced: Traced
    waves: Waves
    around: Outside
    assumed: tuple[str, ...]

    @cached_property
    def numbers(self) -> dict[str, Results]:
        found = pulse_wave_tree.results(self.traced, self.waves)
        return {MODEL: state.named(self.traced.tree, self.around, self.traced.lesions, found)}

    @property
    def curves(self) -> Curves:
        """Place to pressure (Pa) and flow (m^3/s) over `waves.times`, named as the network's."""
        return pulse_wave_tree.curves(self.traced, self.waves)

    @property
    def achieved(self) -> dict[str, dict[str, float]]:
        """Systolic, mean and diastolic pressure at the inlet, Pa."""
        p = self.waves.into().pressure
        return {MODEL: {"systolic": float(p.max()), "mean": float(p.mean()), "diastolic": float(p.min())}}

    @property
    def evidence(self) -> dict[str, Any]:
        """How sound the beat is; a result that exists repeats."""
        told = self.waves.evidence
        return {"is_periodic": True, "n_cycles": told.n_cycles, "change": told.change, "imbalance": told.imbalance,
                "volume_error": told.volume_error}


@dataclass(frozen=True)
class LeftOut:
    """There is no 1D model of this case: the error's code, what happened, what to try. Reads as a model of nothing."""

    code: str
    reason: str
    hint: str

    @property
    def evidence(self) -> dict[str, Any]:
        return {"left_out": self.code, "reason": self.reason, "hint": self.hint}

    @property
    def assumed(self) -> tuple[str, ...]:
        return ()

    @property
    def numbers(self) -> dict[str, Results]:
        return {}

    @property
    def achieved(self) -> dict[str, dict[str, float]]:
        return {}


def elasticity(speed: float | None, fluid: Fluid) -> Elasticity:
    """Stiffness from one speed of waves (m/s) in all vessels, else from each vessel's radius.

    Raises BadInput `bad_wave_speed` when the speed is not above zero, or above FASTEST.
    """
    if speed is None:
        return olufsen1999
    if not 0 < speed <= FASTEST:
        raise BadInput("bad_wave_speed", f"the wave speed is {speed:.3g} m/s", f"above zero, at most {FASTEST:g} m/s",
                       "Leave it out to take stiffness from each vessel's radius.")
    return PulseWaveVelocity(float(speed), fluid.density)


def solve(case: Vessel, walls: Elasticity) -> One | LeftOut:
    """The beat of the nominal tree; its lumen is taken to be that at the mean pressure the outlets were tuned to."""
    around, pressure = case.around, case.around.achieved["mean"]
    try:
        traced = pulse_wave_tree.from_tree(case.tree, case.fluid, walls, around.beds, case.lesions, pressure=pressure)
        return One(traced, pulse_wave.solve(traced.network, around.pulse), around, _assumed(walls, pressure))
    except AnatwinError as error:
        return LeftOut(error.code, error.happened, error.hint)


def _assumed(walls: Elasticity, pressure: float) -> tuple[str, ...]:
    stiff = f"one wave speed, {walls.speed:g} m/s, in all vessels" if isinstance(walls, PulseWaveVelocity) else \
        "stiffness from each vessel's radius (Olufsen 1999)"
    return (f"1D model only: elastic walls, {stiff}; the lumen of the image is that at {pressure / MMHG:.0f} mmHg, the "
            "mean pressure.",)
