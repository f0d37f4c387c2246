"""Cases of OpenFOAM 1912 on hexahedra in five blocks, a wedge of one degree or tetrahedra; what its solvers show."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import stenosis
from benchmarks.stenosis import Seen
from solvers.errors import DidNotConverge
from tests import axisymmetric

WEDGE = np.radians(1.0)


@dataclass(frozen=True)
class Case:
    """solver: pimpleFoam or icoFoam. mesh: hexahedra, wedge or tetrahedra. core: cells along a side of the square in
    the middle (rings of the core for tetrahedra); rings: cells between it and the wall; h: between stations in the
    throat, m; steps in all. growth: how much thinner the last ring is; correctors: of the pressure in a step; div,
    pressure: how convection is interpolated and the pressure is solved."""

    solver: str
    mesh: str
    core: int
    rings: int
    h: float
    steps: int
    growth: float = 3.0
    correctors: int = 1
    div: str = "linear"
    pressure: str = "GAMG"
    ranks: int = 1


def environment(folder: Path) -> dict[str, str]:
    """Where Debian's package keeps its settings, if nothing else is said; root may start ranks, as in a container."""
    home = Path(shutil.which("blockMesh") or "blockMesh").parents[1] / "share/openfoam"
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return {"WM_PROJECT_DIR": str(home)} | os.environ | root | {"PWD": str(folder)}


def write(case: Case, folder: Path) -> int:
    """The case's files with its mesh; its number of cells."""
    files = {"system/controlDict": _control(case), "system/fvSchemes": _schemes(case),
             "system/fvSolution": _solution(case), "system/blockMeshDict": _blocks(case),
             "system/decomposeParDict": f"numberOfSubdomains {case.ranks}; method simple; n (1 1 {case.ranks});",
             "constant/transportProperties": "transportModel Newtonian; nu [0 2 -1 0 0 0 0] "
                                             f"{stenosis.VISCOSITY / stenosis.DENSITY!r};",
             "constant/turbulenceProperties": "simulationType laminar;", "0/U": _velocity(case), "0/p": _pressure(case)}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {"U": "volVectorField", "p": "volScalarField"}.get(path.name, "dictionary")
        path.write_text(f"FoamFile {{ version 2.0; format ascii; class {kind}; object {path.name}; }}\n{text}\n")
    cells = _tetrahedra(case, folder) if case.mesh == "tetrahedra" else _blocked(case, folder)
    if case.ranks > 1:
        command(["decomposePar"], folder)
    return cells


def _blocked(case: Case, folder: Path) -> int:
    log = command(["blockMesh"], folder)
    _bend(folder / "constant/polyMesh/points", case)
    return int(re.search(r"nCells: (\d+)", log)[1])


def command(words: list[str], folder: Path) -> str:
    """What it printed. Raises DidNotConverge with the end of it."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment(folder))
    if done.returncode:
        raise DidNotConverge("peer_failed", f"{words[0]} ended with {done.returncode}: {done.stderr[-1500:]}", "0")
    return done.stdout


def line(case: Case) -> list[str]:
    """The command that solves the case."""
    if case.ranks == 1:
        return [case.solver]
    return ["mpirun", "--oversubscribe", "-n", str(case.ranks), case.solver, "-parallel"]


def _control(case: Case) -> str:
    at = stenosis.points()
    if case.mesh == "wedge":
        at = np.stack([np.hypot(at[:, 0], at[:, 1]), 0 * at[:, 0], at[:, 2]], axis=1)
    probes = " ".join(f"({x:.9g} {y:.9g} {z:.9g})" for x, y, z in at)
    return f"""application {case.solver}; startFrom startTime; startTime 0; stopAt endTime; endTime {stenosis.END};
deltaT {stenosis.END / case.steps!r}; writeControl runTime; writeInterval 1; timePrecision 9; runTimeModifiable no;
functions {{
drop {{ type surfaceFieldValue; libs (fieldFunctionObjects); fields (p); operation areaAverage; regionType patch;
        name inlet; writeFields no; writeControl timeStep; writeInterval 1; writePrecision 10; log no; }}
speed {{ type probes; libs (sampling); fields (U); interpolationScheme cellPoint; writeControl runTime;
         writeInterval {stenosis.SEEN_EVERY}; writePrecision 10; probeLocations ({probes}); }} }}"""


def _schemes(case: Case) -> str:
    slanted = "limited 0.5" if case.mesh == "tetrahedra" else "corrected"
    return f"""ddtSchemes {{ default backward; }} gradSchemes {{ default Gauss linear; }}
divSchemes {{ default none; div(phi,U) Gauss {case.div}; div((nuEff*dev2(T(grad(U))))) Gauss linear; }}
laplacianSchemes {{ default Gauss linear {slanted}; }} interpolationSchemes {{ default linear; }}
snGradSchemes {{ default {slanted}; }}"""


def _solution(case: Case) -> str:
    kind = {"GAMG": "solver GAMG; smoother DICGaussSeidel;", "PCG": "solver PCG; preconditioner DIC;"}[case.pressure]
    slanted = 1 if case.mesh == "tetrahedra" else 0
    return f"""solvers {{ p {{ {kind} tolerance 1e-7; relTol 0.02; }} pFinal {{ $p; relTol 0.005; }}
U {{ solver smoothSolver; smoother symGaussSeidel; tolerance 1e-8; relTol 0.01; }} UFinal {{ $U; }} }}
PISO {{ nCorrectors {case.correctors}; nNonOrthogonalCorrectors {slanted}; }}
PIMPLE {{ nOuterCorrectors 1; nCorrectors {case.correctors};
nNonOrthogonalCorrectors {slanted}; }}"""


def _sides(case: Case) -> str:
    return "" if case.mesh != "wedge" else "axis { type empty; } front { type wedge; } back { type wedge; }"


def _velocity(case: Case) -> str:
    area = np.pi * stenosis.RADIUS**2
    return f"""dimensions [0 1 -1 0 0 0 0]; internalField uniform (0 0 0); boundaryField {{
wall {{ type noSlip; }} outlet {{ type zeroGradient; }} {_sides(case)}
inlet {{ type exprFixedValue; value uniform (0 0 0);
variables ( "s=1-(sqr(pos().x())+sqr(pos().y()))/{stenosis.RADIUS**2!r}" "m=sum(s*mag(face()))/sum(mag(face()))" );
valueExpr "vector(0,0,1)*s/m*{stenosis.PEAK / area!r}*sqr(sin(pi()*time()/0.2))"; }} }}"""


def _pressure(case: Case) -> str:
    return f"""dimensions [0 2 -2 0 0 0 0]; internalField uniform 0; boundaryField {{ {_sides(case)}
wall {{ type zeroGradient; }} inlet {{ type zeroGradient; }} outlet {{ type fixedValue; value uniform 0; }} }}"""


def _blocks(case: Case) -> str:
    """A straight tube of radius and length 1."""
    along = len(stenosis.stations(case.h)) - 1
    return _wedge(case, along) if case.mesh == "wedge" else _tube(case, along)


def _wedge(case: Case, along: int) -> str:
    c, s = np.cos(WEDGE / 2), np.sin(WEDGE / 2)
    return f"""vertices ((0 0 0) ({c} {-s} 0) ({c} {s} 0) (0 0 1) ({c} {-s} 1) ({c} {s} 1));
blocks (hex (0 1 2 0 3 4 5 3) ({case.rings} 1 {along}) simpleGrading ({1 / case.growth} 1 1)); edges ();
boundary (inlet {{ type patch; faces ((0 1 2 0)); }} outlet {{ type patch; faces ((3 4 5 3)); }}
wall {{ type wall; faces ((1 2 5 4)); }} axis {{ type empty; faces ((0 3 3 0)); }}
front {{ type wedge; faces ((0 1 4 3)); }} back {{ type wedge; faces ((0 2 5 3)); }});"""


def _tube(case: Case, along: int) -> str:
    """A core of 0.55 of the radius with bent sides, and four blocks around it."""
    angles = np.pi / 4 + np.pi / 2 * np.arange(4)
    at = [(r * np.cos(a), r * np.sin(a), z) for z in (0, 1) for r in (0.55, 1.0) for a in angles]
    middle = [(r * np.cos(a), r * np.sin(a), z) for z in (0, 1) for r in (0.48, 1.0) for a in angles + np.pi / 4]
    text = [f"({x} {y} {z})" for x, y, z in at]
    ring = [(k, (k + 1) % 4) for k in range(4)]
    arcs = " ".join(f"arc {8 * z + 4 * r + a} {8 * z + 4 * r + b} ({' '.join(map(str, middle[8 * z + 4 * r + a]))})"
                    for z in (0, 1) for r in (0, 1) for a, b in ring)
    n, m = case.core, case.rings
    around = " ".join(f"hex ({a} {a + 4} {b + 4} {b} {a + 8} {a + 12} {b + 12} {b + 8}) ({m} {n} {along}) "
                      f"simpleGrading ({1 / case.growth} 1 1)" for a, b in ring)
    inlet, outlet = (" ".join([f"({k} {k + 1} {k + 2} {k + 3})", *(f"({a + k} {a + 4 + k} {b + 4 + k} {b + k})"
                                                                   for a, b in ring)]) for k in (0, 8))
    wall = " ".join(f"({a + 4} {b + 4} {b + 12} {a + 12})" for a, b in ring)
    return f"""vertices ({' '.join(text)}); edges ({arcs});
blocks (hex (0 1 2 3 8 9 10 11) ({n} {n} {along}) simpleGrading (1 1 1) {around});
boundary (inlet {{ type patch; faces ({inlet}); }} outlet {{ type patch; faces ({outlet}); }}
wall {{ type wall; faces ({wall}); }});"""


def _bend(path: Path, case: Case) -> None:
    """The straight tube's points to the stenosis; the polygon of a section has the circle's area."""
    head, body = path.read_text().split("\n(\n", 1)
    at = np.array(re.findall(r"\(([^()]+) ([^()]+) ([^()]+)\)", body), float)
    z = stenosis.stations(case.h)
    station = np.rint(at[:, 2] * (len(z) - 1)).astype(int)
    angle = WEDGE if case.mesh == "wedge" else 2 * np.pi / (4 * case.core)
    wider = np.sqrt(angle / np.sin(angle)) * stenosis.radius(z)[station]
    moved = np.column_stack([at[:, :2] * wider[:, None], z[station]])
    text = "\n".join(f"({x!r} {y!r} {w!r})" for x, y, w in moved.tolist())
    path.write_text(f"{head}\n(\n{text}\n)\n")


def _tetrahedra(case: Case, folder: Path) -> int:
    """Our own mesh in OpenFOAM's form: inner faces by owner and neighbour, then those of each patch."""
    section = axisymmetric.Section(case.core, case.rings, 0.5)
    points, tets, border, tags = axisymmetric.tube(stenosis.stations(case.h), stenosis.radius, section)
    sides = tets[:, [[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]]].reshape(-1, 3)  # outwards, as the cells are positive
    order = np.lexsort(np.sort(sides, axis=1).T)
    same = (np.sort(sides, axis=1)[order][1:] == np.sort(sides, axis=1)[order][:-1]).all(axis=1)
    one, two = order[:-1][same], order[1:][same]
    low, high = np.where(one // 4 < two // 4, [one, two], [two, one])
    inner = np.lexsort((high // 4, low // 4))
    alone = np.setdiff1d(order, np.r_[one, two])
    tag = dict(zip(map(tuple, np.sort(border, axis=1).tolist()), tags.tolist(), strict=True))
    kinds = np.array([tag[tuple(f)] for f in np.sort(sides[alone], axis=1).tolist()])
    patches = [alone[kinds == t] for t in (axisymmetric.INLET, axisymmetric.OUTLET, axisymmetric.WALL)]
    faces = np.concatenate([low[inner], *patches])
    lists = {"points": ("vectorField", points), "faces": ("faceList", sides[faces]), "owner": ("labelList", faces // 4),
             "neighbour": ("labelList", high[inner] // 4)}
    for name, (kind, values) in lists.items():
        rows = values.tolist() if values.ndim == 1 else [f"({' '.join(map(repr, row))})" for row in values.tolist()]
        _list(folder, name, kind, [f"3{row}" for row in rows] if name == "faces" else [str(row) for row in rows])
    first = len(inner) + np.cumsum([0, *map(len, patches)])
    _list(folder, "boundary", "polyBoundaryMesh", [
        f"{name} {{ type {kind}; nFaces {len(patch)}; startFace {start}; }}" for name, kind, patch, start in
        zip(("inlet", "outlet", "wall"), ("patch", "patch", "wall"), patches, first, strict=False)])
    return len(tets)


def _list(folder: Path, name: str, kind: str, rows: list[str]) -> None:
    path = folder / "constant/polyMesh" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"FoamFile {{ version 2.0; format ascii; class {kind}; object {name}; }}"
    path.write_text("\n".join([head, str(len(rows)), "(", *rows, ")\n"]))


def seen(case: Case, folder: Path) -> Seen:
    """What the run's files hold."""
    time, p = np.loadtxt(folder / "postProcessing/drop/0/surfaceFieldValue.dat").T
    rows = [line for line in (folder / "postProcessing/speed/0/U").read_text().splitlines() if not line.startswith("#")]
    u = np.array([re.findall(r"[-+.\de]+", row) for row in rows], float)
    u = u[u[:, 0] > 1e-9][:, 1:].reshape(-1, len(stenosis.points()), 3)
    if case.mesh == "wedge":
        x, y, _ = stenosis.points().T
        c, s = x / np.hypot(x, y), y / np.hypot(x, y)
        u = np.stack([u[..., 0] * c, u[..., 0] * s, u[..., 2]], axis=-1)
    return Seen(time, p * stenosis.DENSITY, u)
