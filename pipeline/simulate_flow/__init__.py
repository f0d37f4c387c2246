"""Blood flow over a heart beat: 3D, and beside it 1D pulse waves and the 0D network, on the same inflow and outlets.

On a baseline the outlets are tuned on the network to published or measured
pressures and flows. A variant is given the baseline's outlets and inflow and is
never tuned, nor is a second mesh of the same vessel. Walls are rigid in 3D and 0D, elastic in 1D; a 1D model that fails
is left out, and the evidence says why. The state is rest, or hyperaemia of the
legs, in which alone a ratio of pressures is called a flow reserve (state.py).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pipeline import formats
from pipeline.lumen_mesh import read_lumen_mesh
from pipeline.simulate_flow import outside, results, state, vessel, waves
from pipeline.simulate_flow.outside import Outside, State
from pipeline.simulate_flow.vessel import Vessel
from pipeline.simulate_flow.waves import LeftOut, One
from pipeline.stage import Config, Files, Report, tell
from pipeline.table import write_rows
from solvers.errors import BadInput
from solvers.flow import circuit, hyperaemia, navier_stokes, network, outlets, wall_shear
from solvers.flow.navier_stokes import Fluid
from solvers.flow.outlets import Rest
from solvers.flow.progress import Start
from solvers.flow.pulsatile import REPEATS, WALL_REPEATS, Cycles
from solvers.materials import blood
from solvers.units import Density, FlowRate, Pressure, Quantity, Time, Viscosity, quantity

VERSION = 2
SOURCES = [*navier_stokes.SOURCES, *wall_shear.SOURCES, *blood.SOURCES.values(), *network.SOURCES,
           *circuit.SOURCES, *outlets.SOURCES, *hyperaemia.SOURCES, *state.SOURCES, *waves.SOURCES]
YEAR = 365.25 * 86400.0

if TYPE_CHECKING:
    type Speed = Any
else:
    Speed = Annotated[Quantity, quantity("m/s", '"8 m/s"')]


class SimulateFlowConfig(Config):
    """What is None is taken from the sidecar, else from published tables by age and sex; the result says which."""

    time_step: Time = "2 ms"
    """At most; the beat is divided evenly."""
    least_cycles: int = 2
    most_cycles: int = 6
    periodic_tolerance: float = REPEATS
    """Change of pressure and flow at a cap from one cycle to the next, root mean square, of the largest range."""
    wall_tolerance: float = WALL_REPEATS
    """Change of the wall's mean shear from one cycle to the next; one that no longer falls ends the cycles too."""
    snapshots: int = 10
    density: Density = "1060 kg/m^3"
    viscosity: Viscosity = "3.5 mPa*s"
    """Of all models; of 1D and 0D alone, on which the outlets are tuned, where 3D follows another law."""
    viscosity_law: blood.Name = "newtonian"
    """Of the 3D flow, by the rate of shear."""
    hematocrit: float | None = None
    """Part of one, for casson and quemada; 0.45 where nobody tells."""
    systolic: Pressure | None = None
    """Of a cuff, as all pressures here: targets at the inlet."""
    mean: Pressure | None = None
    diastolic: Pressure | None = None
    beat: Time | None = None
    """Length of one beat."""
    cardiac_output: FlowRate | None = None
    inlet_flow: FlowRate | None = None
    """Mean flow into the vessel."""
    inlet_waveform: tuple[float, ...] = ()
    """Form of the inflow at equal times over a beat, from the end of diastole; its scale does not matter."""
    age: Time | None = None
    """As "64 year"."""
    sex: Literal["male", "female"] | None = None
    state: State = "rest"
    """Hyperaemia: the legs' small vessels held open as by papaverine; the ratio across a lesion is peripheral FFR."""
    wave_speed: Speed | None = None
    """Of pressure waves in all vessels of the 1D model, at the image's pressure; else by each vessel's radius."""


class SimulateFlowInputs(Files):
    mesh: Path
    boundaries: Path
    centrelines: Path
    lesions: Path
    sidecar: Path | None = None
    outlets: Path | None = None
    """The baseline's, or another mesh's of this vessel: then nothing is tuned."""
    state: Path | None = None
    """Of another flow through this vessel, or one much like it, where this one starts."""
    state_mesh: Path | None = None
    """With `state`: its mesh, and that mesh's boundaries."""
    state_boundaries: Path | None = None
    inflow: Path | None = None
    """The patient's own, as measure_flow writes it (inlet.json): its beat, mean and form."""


class SimulateFlowOutputs(Files):
    cycle: Path = Path("cycle.pvd")
    wall: Path = Path("wall.vtp")
    outlets: Path = Path("outlets.json")
    curves: Path = Path("curves.csv")
    haemodynamics: Path = Path("haemodynamics.json")
    measurements: Path = Path("measurements.csv")
    state: Path = Path("state.npz")
    """All that the flow needs to go on from its last beat."""
    last_two: Path = Path("last_two.npz")
    """As `state`, from before its last two beats: the same flow started from there ends in the same numbers."""


class SimulateFlowReport(Report):
    n_tets: int
    n_velocity_nodes: int
    time_step_ms: float
    n_cycles: int
    cycle_change: float
    wall_shear_change: float
    mass_imbalance: float
    largest_cfl: float
    was_tuned: bool
    state: State
    inlet_flow_l_per_min: float
    systolic_mmhg: float
    mean_mmhg: float
    diastolic_mmhg: float
    target_systolic_mmhg: float
    target_diastolic_mmhg: float
    exhausted_beds: list[str]
    assumed: list[str]
    left_out: dict[str, str]
    """Model to the code of the error that it ended with."""


def simulate_flow(inputs: SimulateFlowInputs, config: SimulateFlowConfig,
                  outputs: SimulateFlowOutputs) -> SimulateFlowReport:
    """Tune the outlets (or take the baseline's), solve the models until they repeat, write fields, curves and rows."""
    mesh = read_lumen_mesh(inputs.mesh, inputs.boundaries)
    config = outside.with_inflow(config, inputs.inflow) if inputs.inflow and not inputs.outlets else config
    tree, lesions = formats.read_tree(inputs.centrelines), formats.read_lesions(inputs.lesions)
    fluid = Fluid(float(config.density), float(config.viscosity), blood.law(config.viscosity_law, config.hematocrit))
    walls = waves.elasticity(config.wave_speed, fluid)
    around = outside.read(inputs.outlets, tree, config.state) if inputs.outlets else \
        outside.tuned(tree, lesions, fluid, _rest(inputs, config), config.inlet_waveform, config.state)
    for line in around.assumed if not inputs.outlets else ():
        tell(f"  simulate_flow: {line}")
    case = Vessel(mesh, tree, tuple(lesions), fluid, around)
    networks, one = results.networks(case), waves.solve(case, walls)
    if isinstance(one, LeftOut):
        tell(f"  simulate_flow: the 1D model is left out ({one.code}): {one.reason}")
    cycles = Cycles(config.least_cycles, config.most_cycles, config.periodic_tolerance, config.wall_tolerance,
                    config.snapshots)
    found = vessel.solve(case, networks["nominal"], float(config.time_step), cycles, _earlier(inputs))
    numbers = results.of_vessel(case, found)
    vessel.write_fields(outputs.cycle, outputs.wall, case, found)
    found.cycle.end.write(outputs.state)
    found.cycle.last_two.write(outputs.last_two)
    formats.write_json(outputs.outlets, outside.content(case, found, one) | {"assumed_blood": _of_blood(config)})
    results.write_curves(outputs.curves, case, found, networks, one)
    evidence = results.evidence(found, networks, one)
    formats.write_json(outputs.haemodynamics, {
        "models": {"0D": {name: n.numbers for name, n in networks.items()}, "3D": numbers}
        | one.numbers,
        "evidence": evidence, "pressures": results.pressures(found), "unit": "mmHg, Pa (shear), m/s; pressures: Pa"})
    write_rows(outputs.measurements, results.rows(case, found, numbers, networks["nominal"], one))
    return _report(inputs, case, found, one, evidence, _of_blood(config))


def _earlier(inputs: SimulateFlowInputs) -> vessel.Earlier | None:
    if inputs.state is None:
        return None
    if inputs.state_mesh is None or inputs.state_boundaries is None:
        raise BadInput("state_without_mesh", f"{inputs.state.name} is given without the mesh that it is of",
                       "its mesh and that mesh's boundaries too")
    return vessel.Earlier(Start.read(inputs.state), read_lumen_mesh(inputs.state_mesh, inputs.state_boundaries))


def _rest(inputs: SimulateFlowInputs, config: SimulateFlowConfig) -> Rest:
    """What is known of the person: the settings, then the sidecar."""
    known: dict[str, Any] = formats.read_json(inputs.sidecar) if inputs.sidecar else {}
    sexes: dict[str | None, Literal["male", "female"]] = {"M": "male", "F": "female"}
    age = known.get("age_years") if config.age is None else float(config.age) / YEAR
    return Rest(age=age, sex=config.sex or sexes.get(known.get("sex")), systolic=config.systolic, mean=config.mean,
                diastolic=config.diastolic, heart_rate=None if config.beat is None else 1 / float(config.beat),
                cardiac_output=config.cardiac_output, inlet_flow=config.inlet_flow)


def _of_blood(config: SimulateFlowConfig) -> list[str]:
    """What the models do not share of the blood."""
    if config.viscosity_law == "newtonian":
        return []
    share = config.hematocrit or blood.USUAL
    part = f" at a hematocrit of {share:g}" if config.viscosity_law in ("casson", "quemada") else ""
    return [f"Blood of the 3D model thins by the law {config.viscosity_law}{part}; that of 1D and 0D, on which the "
            f"outlets are tuned, is Newtonian, {1e3 * float(config.viscosity):g} mPa s."]


def _report(inputs: SimulateFlowInputs, case: Vessel, found: vessel.Solved, one: One | LeftOut,
            evidence: dict[str, Any], of_blood: list[str]) -> SimulateFlowReport:
    p, around = results.in_mmhg(results.pressures(found)), case.around
    wanted = results.in_mmhg(around.targets)
    return SimulateFlowReport(
        n_tets=len(case.mesh.tets), n_velocity_nodes=found.n_nodes, time_step_ms=1e3 * found.time_step,
        n_cycles=evidence["n_cycles"], cycle_change=evidence["change"],
        wall_shear_change=evidence["wall_change"], mass_imbalance=evidence["imbalance"],
        largest_cfl=evidence["largest_cfl"], was_tuned=inputs.outlets is None, state=around.state,
        inlet_flow_l_per_min=6e4 * around.pulse.mean, systolic_mmhg=p["systolic"], mean_mmhg=p["mean"],
        diastolic_mmhg=p["diastolic"], target_systolic_mmhg=wanted["systolic"],
        target_diastolic_mmhg=wanted["diastolic"], exhausted_beds=list(around.exhausted),
        assumed=[*around.assumed, *one.assumed, *of_blood],
        left_out={waves.MODEL: one.code} if isinstance(one, LeftOut) else {})


__all__ = ["Outside", "SimulateFlowConfig", "SimulateFlowInputs", "SimulateFlowOutputs", "simulate_flow"]
