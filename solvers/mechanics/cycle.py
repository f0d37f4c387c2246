"""The wall over a cycle, in balance at each pressure: from the imaged shape to zero pressure, diastole and systole."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from solvers.mechanics import equilibrium, prestress
from solvers.mechanics.body import Body, End, Loads
from solvers.mechanics.equilibrium import Equilibrium
from solvers.numerics.newton import Evidence, Newton


@dataclass(frozen=True)
class Pressures:
    """Pressure in the lumen, Pa: while the image was taken, at the end of diastole, at the peak of systole."""

    image: float
    diastolic: float
    systolic: float


@dataclass(frozen=True)
class Cycle:
    """zero (n, 3) m: from the image to the shape without pressure; displacement (n, 3) m: from diastole to systole;
    diastole, systole: in balance; round_trip: m, the farthest that a point lies from its place in the image when the
    pressure comes back from systole to the image's, None where it was not tried; min_J: least ratio of volumes in all
    of them."""

    zero: np.ndarray
    displacement: np.ndarray
    diastole: Equilibrium
    systole: Equilibrium
    round_trip: float | None
    min_J: float
    evidence: Evidence


def solve(body: Body, ends: dict[int, End], pressures: Pressures, way: Literal["prestress", "inverse"] = "prestress",
          tether: float = 0.0, numerics: Newton = Newton(), *, comes_back: bool = False) -> Cycle:
    """`body` is the imaged shape; way: to its stress there (see `prestress`); tether: of the tissue outside, Pa/m (see
    `Loads`); comes_back: whether to try that the wall does. Raises DidNotConverge."""
    image = Loads(pressures.image, ends, tether)
    known = prestress.stretched(body, image, numerics) if way == "prestress" else \
        prestress.unloaded(body, image, numerics)
    diastole, systole = (equilibrium.solve(known.body, Loads(p, ends, tether), numerics, known.state)
                         for p in (pressures.diastolic, pressures.systolic))
    again = [equilibrium.solve(known.body, image, numerics, systole.state)] if comes_back else []
    missed = [float(np.linalg.norm(b.displacement - known.state.displacement, axis=1).max()) for b in again]
    evidence = known.evidence
    for other in (diastole, systole, *again):
        evidence = evidence.then(other.evidence)
    return Cycle(known.displacement, systole.displacement - diastole.displacement, diastole, systole,
                 missed[0] if missed else None, min(s.min_J for s in (known, diastole, systole, *again)), evidence)
