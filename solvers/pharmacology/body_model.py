"""The whole body as well-mixed, perfusion-limited compartments: one linear system, solved without a time step's error.

A dose by mouth leaves the stomach and is absorbed from the bowel's lumen, both at
first order. Venous blood flows through the lung into arterial blood and from there through
the organs; what leaves an organ is at equilibrium with its tissue. Liver and
kidney clear their blood as well-stirred organs. Amounts (kg) are the unknowns,
so that every column of the matrix sums to zero: nothing is lost. Intrinsic
clearances come from the published clearance of plasma, at the flows of a
library man of the study's weight, and scale with the patient's liver and kidney.

Sources: Jones & Rowland-Yeo 2013 (structure), doi:10.1038/psp.2013.41;
Yu & Amidon 1999 (stomach and bowel), doi:10.1016/S0378-5173(99)00147-7;
Van Loan 1978 (integrals by the matrix exponential), doi:10.1109/TAC.1978.1101743.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import expm

from solvers.errors import BadInput, DidNotConverge
from solvers.library import body as library
from solvers.library.drugs import Drug
from solvers.pharmacology import elimination, partition
from solvers.pharmacology.absorption import Regimen
from solvers.pharmacology.physiology import Body, Organ, adult

SOURCES = ["Jones & Rowland-Yeo 2013 (whole-body structure), doi:10.1038/psp.2013.41",
           "Yu & Amidon 1999 (stomach and bowel), doi:10.1016/S0378-5173(99)00147-7",
           "Van Loan 1978 (matrix exponential), doi:10.1109/TAC.1978.1101743",
           *elimination.SOURCES, *partition.SOURCES]
POOLS = ("stomach", "gut_lumen", "arterial_blood", "venous_blood", "lung")
SINKS = ("metabolised", "excreted", "not_absorbed")
BALANCE = 1e-8
"""Part of the dose that may be missing at most."""


@dataclass(frozen=True)
class Disposition:
    """What the drug does in this body: tissue to plasma ratios, intrinsic clearances of blood (m^3/s), rates (1/s)."""

    tissue_to_plasma: dict[str, float]
    blood_to_plasma: float
    liver: float
    kidney: float
    absorption_rate: float
    fraction_absorbed: float
    emptying_rate: float


@dataclass(frozen=True)
class Curves:
    """Amounts over time. times: (n,) s; amounts: (n, m) kg, a column per name; integrals: (m,) kg s to the end.

    balance_error: the largest part of what was given that is missing or in
    excess. `plasma` is that of venous blood; concentrations of tissues are of
    the whole tissue, kg/m^3.
    """

    times: np.ndarray
    names: tuple[str, ...]
    amounts: np.ndarray
    integrals: np.ndarray
    volumes: dict[str, float]
    blood_to_plasma: float
    balance_error: float

    def amount(self, name: str) -> np.ndarray:
        return self.amounts[:, self.names.index(name)]

    def concentration(self, name: str) -> np.ndarray:
        """kg/m^3 over time, of `plasma` or any compartment with a volume."""
        return self.amount(_column(name)) / self._divisor(name)

    def auc(self, name: str) -> float:
        """Area under the concentration from 0 to the end, kg s/m^3, exact."""
        return float(self.integrals[self.names.index(_column(name))]) / self._divisor(name)

    def _divisor(self, name: str) -> float:
        return self.volumes[_column(name)] * (self.blood_to_plasma if name == "plasma" else 1.0)


@dataclass(frozen=True)
class System:
    """d(amounts)/dt = matrix @ amounts + rate of infusion into venous blood."""

    body: Body
    drug: Disposition

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (*POOLS, *(o.name for o in self.body.organs), *SINKS)

    @cached_property
    def volumes(self) -> dict[str, float]:
        blood = {"arterial_blood": self.body.arterial_volume, "venous_blood": self.body.venous_volume}
        return blood | {"lung": self.body.lung_volume} | {o.name: o.volume for o in self.body.organs}

    @cached_property
    def matrix(self) -> np.ndarray:
        """Rates, 1/s, shape (m, m); column sums are zero."""
        matrix = np.zeros((len(self.names),) * 2)
        drug, output = self.drug, self.body.cardiac_output
        self._move(matrix, "stomach", "gut_lumen", drug.emptying_rate)
        self._move(matrix, "gut_lumen", "gut", drug.absorption_rate * drug.fraction_absorbed)
        self._move(matrix, "gut_lumen", "not_absorbed", drug.absorption_rate * (1 - drug.fraction_absorbed))
        self._move(matrix, "venous_blood", "lung", output / self.body.venous_volume)
        self._move(matrix, "lung", "arterial_blood", output / self._held("lung", self.body.lung_volume))
        for organ in self.body.organs:
            held = self._held(organ.tissue, organ.volume)
            target = "liver" if organ.name == "gut" else "venous_blood"
            flow = self.body.liver_flow if organ.name == "liver" else organ.flow
            self._move(matrix, "arterial_blood", organ.name, organ.flow / self.body.arterial_volume)
            self._move(matrix, organ.name, target, flow / held)
            sink, cleared = self._clearance(organ)
            self._move(matrix, organ.name, sink, cleared / held)
        return matrix

    def _clearance(self, organ: Organ) -> tuple[str, float]:
        """Where an organ's losses go, and the blood it could clear, m^3/s; kidneys share by volume."""
        if organ.tissue == "kidney":
            return "excreted", self.drug.kidney * organ.volume / self.body.total("kidney", "volume")
        return "metabolised", self.drug.liver if organ.name == "liver" else 0.0

    def _held(self, tissue: str, volume: float) -> float:
        """Volume of blood that holds as much as the tissue does, m^3."""
        return volume * self.drug.tissue_to_plasma[tissue] / self.drug.blood_to_plasma

    def _move(self, matrix: np.ndarray, source: str, target: str, rate: float) -> None:
        i, j = self.names.index(source), self.names.index(target)
        matrix[j, i] += rate
        matrix[i, i] -= rate


def disposition(drug: Drug, body: Body) -> Disposition:
    """The drug in this body: clearances by the well-stirred model, scaled with the volume of liver and kidney."""
    study = adult("male", drug.clearance_weight)
    ratios = {tissue: partition.tissue_to_plasma(drug, tissue) for tissue in {o.tissue for o in body.organs} | {"lung"}}
    blood = drug.clearance / drug.blood_to_plasma
    liver = elimination.intrinsic(study.liver_flow, (1 - drug.renal_share) * blood)
    kidney = elimination.intrinsic(study.total("kidney", "flow"), drug.renal_share * blood)
    liver *= body.organ("liver").volume / study.organ("liver").volume
    kidney *= body.total("kidney", "volume") / study.total("kidney", "volume")
    emptying = 1 / (60 * library.number("gut", "stomach_emptying"))
    return Disposition(ratios, drug.blood_to_plasma, liver, kidney, drug.absorption_rate, drug.fraction_absorbed,
                       emptying)


def clearance(body: Body, drug: Disposition) -> float:
    """Clearance of plasma in this body with its flows, m^3/s."""
    liver = elimination.clearance(body.liver_flow, drug.liver)
    whole = body.total("kidney", "volume")
    kidneys = sum(elimination.clearance(o.flow, drug.kidney * o.volume / whole)
                  for o in body.organs if o.tissue == "kidney")
    return drug.blood_to_plasma * (liver + kidneys)


def equilibration_half_time(body: Body, drug: Disposition, organ: str) -> float:
    """Time in which an organ comes half way to a new blood level, s."""
    place = body.organ(organ)
    return float(np.log(2)) * place.volume * drug.tissue_to_plasma[place.tissue] / drug.blood_to_plasma / place.flow


def solve(body: Body, drug: Disposition, regimen: Regimen, duration: float, step: float) -> Curves:
    """Amounts at every `step` (s) and at every event up to `duration` (s).

    Raises BadInput `nothing_to_follow` for a time that is not above zero and
    DidNotConverge `mass_not_conserved` when the balance is off by more than 1e-8.
    """
    if not (duration > 0 and step > 0):
        raise BadInput("nothing_to_follow", f"a duration of {duration:g} s in steps of {step:g} s", "times above zero")
    system = System(body, drug)
    times = _times(regimen, duration, step)
    state = np.zeros(len(system.names))
    total, amounts, jumps = np.zeros_like(state), [], _entries(system, regimen)
    steps: dict[float, np.ndarray] = {}
    for i, time in enumerate(times):
        state = state + jumps.get(float(time), 0.0)
        amounts.append(state)
        if i + 1 < len(times):
            state, area = _advance(system, state, regimen.rate(time), times[i + 1] - time, steps)
            total = total + area
    return _checked(system, regimen, times, np.array(amounts), total)


def _times(regimen: Regimen, duration: float, step: float) -> np.ndarray:
    regular = np.minimum(np.arange(np.ceil(duration / step - 1e-9) + 1) * step, duration)
    events = [t for t in regimen.events() if t <= duration]
    merged = np.union1d(events, regular)
    apart = np.r_[True, np.diff(merged) > 1e-6]
    return np.union1d(merged[apart], events)


def _entries(system: System, regimen: Regimen) -> dict[float, np.ndarray]:
    """What comes in at once, by time."""
    if regimen.route == "iv_infusion":
        return {}
    place = "stomach" if regimen.route == "oral" else "venous_blood"
    unit = np.eye(len(system.names))[system.names.index(place)]
    return {float(t): regimen.dose * unit for t in regimen.starts}


def _advance(system: System, state: np.ndarray, rate: float, step: float,
             known: dict[float, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """State after `step` and the integral of the state over it; both exact for a constant rate."""
    m, key = len(state), round(float(step), 6)
    if key not in known:
        known[key] = expm(_augmented(system) * step)
    after = known[key] @ np.concatenate([state, np.zeros(m), [rate]])
    return after[:m], after[m:2 * m]


def _augmented(system: System) -> np.ndarray:
    """The system with the integrals of its amounts and a constant rate of infusion as further unknowns."""
    m = len(system.names)
    whole = np.zeros((2 * m + 1,) * 2)
    whole[:m, :m], whole[m:2 * m, :m] = system.matrix, np.eye(m)
    whole[system.names.index("venous_blood"), -1] = 1.0
    return whole


def _checked(system: System, regimen: Regimen, times: np.ndarray, amounts: np.ndarray, total: np.ndarray) -> Curves:
    given = np.array([regimen.given(t) for t in times])
    error = float(np.max(np.abs(amounts.sum(axis=1) - given))) / float(given.max())
    lowest = float(amounts.min()) / float(given.max())
    if not (error <= BALANCE and lowest >= -BALANCE):
        raise DidNotConverge("mass_not_conserved", f"the balance of mass is off by {error:.1e} of the dose, the lowest "
                             f"amount is {lowest:.1e} of it", f"at most {BALANCE:g}", "Take shorter steps.", amounts)
    return Curves(times, system.names, np.maximum(amounts, 0.0), total, system.volumes,
                  system.drug.blood_to_plasma, error)


def compartments(body: Body) -> Sequence[str]:
    """Names with a concentration, in the order of a report."""
    return ["plasma", *sorted(o.name for o in body.organs if o.name == "perfused_bed"), "arterial_blood",
            "venous_blood", "lung", *sorted(o.name for o in body.organs if o.name != "perfused_bed")]


def _column(name: str) -> str:
    """Plasma is read from venous blood."""
    return "venous_blood" if name == "plasma" else name
