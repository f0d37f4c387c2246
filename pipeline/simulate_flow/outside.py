"""What lies beyond the mesh: the inflow and the outlets' Windkessels, tuned or as a file holds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline import formats
from solvers.errors import BadInput
from solvers.flow import hyperaemia, network, outlets
from solvers.flow.hyperaemia import Dilated
from solvers.flow.navier_stokes import Fluid
from solvers.flow.network import Network
from solvers.flow.outlets import Rest, Tuned
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel
from solvers.geometry.centrelines import Lesion, Tree

if TYPE_CHECKING:
    from pipeline.simulate_flow.vessel import Solved, Vessel
    from pipeline.simulate_flow.waves import LeftOut, One

State = Literal["rest", "hyperaemia"]


@dataclass(frozen=True)
class Outside:
    """beds: leaf (branch index) to Windkessel; feeds: leaf to what it feeds; flows: leaf to target, m^3/s.

    targets and achieved: systolic, mean, diastolic pressure at the inlet, Pa (mean
    None where none was measured); exhausted: names of beds that cannot widen
    enough; assumed: what nobody measured, a sentence each. dilated: leaves whose
    bed is held open in the state of hyperaemia; targets are those of rest then.
    """

    beds: Mapping[int, Windkessel]
    feeds: Mapping[int, str]
    flows: Mapping[int, float]
    pulse: Pulse
    targets: Mapping[str, float | None]
    achieved: Mapping[str, float]
    exhausted: tuple[str, ...]
    assumed: tuple[str, ...]
    state: State = "rest"
    dilated: tuple[int, ...] = ()


def tuned(tree: Tree, lesions: Sequence[Lesion], fluid: Fluid, rest: Rest, waveform: Sequence[float],
          state: State = "rest") -> Outside:
    """Outlets that meet the person's pressures and flows at rest on the 0D network, then brought to the state.

    Raises BadInput `bad_waveform` when the waveform is not of a forward flow, `no_leg` when no bed can be dilated.
    """
    wanted = outlets.targets(tree, lesions, rest)
    wave = _wave(waveform, wanted.inflow, 1 / wanted.heart_rate) if len(waveform) else outlets.pulse(wanted)

    def build(beds: Mapping[int, Windkessel]) -> Network:
        return network.build(tree, fluid, lesions, outlets=beds)

    found = outlets.tune(build, wanted, wave)
    names = network.outlet_names(tree)
    rested = Outside(found.outlets, wanted.beds, wanted.flows, wave,
                   {"systolic": wanted.systolic, "mean": wanted.mean, "diastolic": wanted.diastolic},
                   _achieved(found), tuple(names[i] for i in found.exhausted), (*wanted.told, *found.told))
    return rested if state == "rest" else _dilated(rested, hyperaemia.dilate(build, found, wave))


def _dilated(rested: Outside, found: Dilated) -> Outside:
    p = found.periodic.at(found.network.circuit.inlet)
    achieved = {"systolic": float(p.max()), "mean": float(p.mean()), "diastolic": float(p.min())}
    told = (f"Hyperaemia: resistances of the legs' small vessels are those of rest without a stenosis over "
            f"{found.factor:g}, the mean pressure at the inlet that of rest; the inflow rises from "
            f"{6e4 * rested.pulse.mean:.2f} to {6e4 * found.pulse.mean:.2f} L/min. Organs stay at rest.")
    return replace(rested, beds=found.outlets, flows=found.flows, pulse=found.pulse, achieved=achieved,
                   assumed=(*rested.assumed, told), state="hyperaemia", dilated=found.leaves)


def _achieved(found: Tuned) -> dict[str, float]:
    done = found.achieved
    return {"systolic": done.systolic, "mean": done.mean, "diastolic": done.diastolic}


def _wave(form: Sequence[float], mean: float, period: float) -> Pulse:
    values = np.asarray(form, float)
    if len(values) < 8 or not np.isfinite(values).all() or not values.mean() > 0:
        raise BadInput("bad_waveform", f"the inlet's waveform has {len(values)} values with mean {values.mean():.3g}",
                       "at least 8 values over one beat, with a mean above zero")
    return Pulse(period, values * mean / values.mean())


def with_inflow(config: Any, path: Path) -> Any:
    """The settings with a measured inflow: its beat, its mean, and its form over equal times.

    Raises BadInput `two_inflows` where the settings name one too, `wrong_unit`, and what `_wave` raises.
    """
    named = [n for n in ("inlet_flow", "cardiac_output", "beat") if getattr(config, n) is not None]
    named += ["inlet_waveform"] if config.inlet_waveform else []
    if named:
        raise BadInput("two_inflows", f"{path.name} is given, and the settings name {', '.join(named)}", "one inflow",
                       "Leave out the setting, or the file.")
    given = formats.read_json(path)
    if given.get("unit") != "SI" or not given.get("flow"):
        raise BadInput("wrong_unit", f"{path.name} says unit = {given.get('unit')}", "unit = SI, period and flow",
                       "Make it by recipe phase_contrast.")
    flow = np.array(given["flow"])
    if not flow.mean() > 0:
        raise BadInput("bad_waveform", f"the mean of the inflow is {flow.mean():.3g} m^3/s", "a mean above zero")
    return config.but(inlet_flow=f"{float(flow.mean()):.9g} m^3/s", beat=f"{given['period']:.9g} s",
                      inlet_waveform=tuple(flow.tolist()))


def read(path: Path, tree: Tree, state: State = "rest") -> Outside:
    """The outlets and the inflow of an outlets.json, for the same leaves.

    Raises BadInput `outlets_differ` when the file is of another tree, `state_differs` when it is of another state.
    """
    content = formats.read_json(path)
    if content.get("unit") != "SI":
        raise BadInput("wrong_unit", f"{path.name} says unit = {content.get('unit')}", "unit = SI")
    items = content["outlets"]
    if {i["branch"] for i in items} != set(tree.leaves):
        raise BadInput("outlets_differ", f"{path.name} has outlets on branches {sorted(i['branch'] for i in items)}",
                       f"one for each leaf: {tree.leaves}", "Give the outlets of the same case's baseline.")
    if content.get("state", "rest") != state:
        raise BadInput("state_differs", f"{path.name} is of {content.get('state', 'rest')}", f"outlets of {state}",
                       "A variant is compared with its baseline in one state: run both with the same setting.")
    inlet = content["inlet"]
    return Outside(
        {i["branch"]: Windkessel(i["proximal"], i["distal"], i["compliance"], i["venous"]) for i in items},
        {i["branch"]: i["bed"] for i in items}, {i["branch"]: i["target_flow"] for i in items},
        Pulse(inlet["period"], np.array(inlet["flow"])), content["targets"], content["achieved"]["0D"],
        tuple(content["exhausted"]), tuple(content["assumed"]), state,
        tuple(i["branch"] for i in items if i.get("dilated", False)))


def content(case: "Vessel", found: "Solved", one: "One | LeftOut") -> dict[str, Any]:
    """outlets.json, SI: parameters, what they were to meet, and what the models do with them.

    assumed goes with the outlets to a variant; assumed_walls is of this vessel's 1D model.
    """
    around, items = case.around, []
    for b in case.mesh.outlets:
        bed = around.beds[b.branch]
        items.append({"name": b.name, "branch": b.branch, "tag": b.tag, "bed": around.feeds[b.branch],
                      "proximal": bed.proximal, "distal": bed.distal, "compliance": bed.compliance,
                      "venous": bed.venous, "dilated": b.branch in around.dilated,
                      "target_flow": around.flows[b.branch],
                      "mean_flow": float(found.cycle.flow[b.tag].mean())})
    achieved = {"0D": dict(around.achieved), "3D": found.pressures}
    return {"unit": "SI", "state": around.state, "outlets": items,
            "inlet": {"name": case.mesh.inlet.name, "mean_flow": around.pulse.mean, "period": around.pulse.period,
                      "flow": around.pulse.flow.tolist()},
            "targets": dict(around.targets), "achieved": achieved | one.achieved,
            "exhausted": list(around.exhausted), "assumed": list(around.assumed),
            "assumed_walls": list(one.assumed)}
