"""The lumen in tetrahedra: a narrowed trunk that forks, from files to files; and the tools it is made with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvista

from pipeline import formats
from pipeline.lumen_mesh import read_lumen_mesh, read_quality
from pipeline.mesh import MeshConfig, MeshInputs, MeshOutputs, child, mesh
from pipeline.mesh.build import Gates, Plan
from pipeline.mesh.follow import Leader, follow
from pipeline.stage import read_record, run
from solvers.devices import stent
from solvers.devices.stent import Stent
from solvers.errors import BadInput, DidNotConverge
from solvers.geometry import isosurface, layers, sizing, tetrahedra, triangles
from solvers.geometry.centrelines import Branch, Tree
from solvers.geometry.intersections import crossing_triangles
from solvers.geometry.layers import Layering, Rim
from solvers.geometry.lumen_mesh import INLET, WALL, LumenMesh
from solvers.geometry.lumen_wall import Extending
from solvers.geometry.sections import Cutter
from solvers.geometry.surface import Surface
from tests.tubes import OUTLET, cylinder, tube
from tests.unit.vessel_shapes import curve, grid_around, narrowed, tube_field

TRUNK, DAUGHTER, THROAT_AT, PERCENT = 5.0, 3.6, 26.0, 50.0
ACROSS = 2.5


def shape() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    trunk = curve([0, 0, 0], [0.5, 1, 26], [0, 0, 52])
    left, right = (curve([0, 0, 52], [x * 9, 2, 66], [x * 18, 4, 86]) for x in (1, -1))
    return {"abdominal_aorta": (trunk, narrowed(trunk, TRUNK, THROAT_AT, PERCENT, 16)),
            "iliac_artery_left": (left, np.full(len(left), DAUGHTER)),
            "iliac_artery_right": (right, np.full(len(right), DAUGHTER))}


def tree_of(vessel: dict[str, tuple[np.ndarray, np.ndarray]]) -> Tree:
    found = []
    for i, (name, (points, radius)) in enumerate(vessel.items()):
        points, radius = points[::5], radius[::5]
        area = np.pi * radius**2
        found.append(Branch(points, radius, area, area, area, -1 if i == 0 else 0, name))
    return Tree(tuple(found))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> MeshInputs:
    folder = tmp_path_factory.mktemp("fork")
    tubes = list(shape().values())
    surface = isosurface.extract(tube_field(tubes, *grid_around(tubes, 0.5)))
    poly = pyvista.PolyData.from_regular_faces(surface.points, surface.triangles)
    formats.write_mesh(folder / "lumen.vtp", poly, "mm")
    formats.write_tree(folder / "tree.vtp", tree_of(shape()))
    return MeshInputs(surface=folder / "lumen.vtp", centrelines=folder / "tree.vtp")


@pytest.fixture(scope="module")
def done(inputs: MeshInputs, tmp_path_factory: pytest.TempPathFactory) -> MeshOutputs:
    return run(mesh, inputs, MeshConfig(cells_across=ACROSS), tmp_path_factory.mktemp("done") / "mesh")


@pytest.fixture(scope="module")
def made(done: MeshOutputs) -> LumenMesh:
    return read_lumen_mesh(done.mesh, done.boundaries)


def surface_of(path: Path) -> Surface:
    poly = formats.read_mesh(path, "mm")
    return Surface(np.asarray(poly.points, float), poly.regular_faces)


def closed(found: LumenMesh) -> Surface:
    """The mesh's own boundary, mm."""
    return Surface(1000 * found.points, found.triangles)


def test_as_many_edges_around_the_ends_as_asked_for(made: LumenMesh, done: MeshOutputs) -> None:
    for cap in made.boundaries[1:]:
        n_edges = (closed(made).but(triangles=made.triangles_of(cap.tag)).edges[1] == 1).sum()
        assert 0.8 < n_edges / (np.pi * ACROSS) < 1.7
    assert read_quality(done.boundaries)["cells_across"] == ACROSS


def test_fewer_cells_across_where_there_would_be_too_many_tetrahedra(inputs: MeshInputs, made: LumenMesh,
                                                                     tmp_path: Path) -> None:
    most = int(0.8 * len(made.tets))
    told = read_quality(run(mesh, inputs, MeshConfig(cells_across=ACROSS, max_tets=most), tmp_path / "mesh").boundaries)
    assert 0.6 * most <= told["n_tets"] <= most
    assert 0.6 * ACROSS < told["cells_across"] < ACROSS
    assert f"to have at most {most} tetrahedra" in told["method"]


def test_cells_fill_the_boundary_and_none_is_flat(made: LumenMesh, done: MeshOutputs) -> None:
    assert tetrahedra.is_conforming(made.tets)
    assert closed(made).is_closed
    assert tetrahedra.volumes(1000 * made.points, made.tets).sum() == pytest.approx(closed(made).volume, rel=1e-9)
    assert tetrahedra.volumes(made.points, made.tets).min() > 0
    told = read_quality(done.boundaries)
    assert told["min_dihedral_deg"] > 5
    assert told["min_scaled_jacobian"] == pytest.approx(
        tetrahedra.scaled_jacobians(made.points, made.tets).min(), rel=1e-6)
    assert told["self_intersections"] == 0
    assert not crossing_triangles(closed(made)).any()


def test_every_cell_has_a_corner_off_the_wall(made: LumenMesh) -> None:
    """Velocity is zero on the wall: a cell with all corners there would carry no flow."""
    assert not np.isin(made.tets, made.triangles_of(WALL)).all(axis=1).any()


def test_ends_are_tagged_flat_round_and_square_to_the_vessel(made: LumenMesh) -> None:
    assert [(b.tag, b.role, b.name) for b in made.boundaries] == [
        (1, "wall", "wall"), (2, "inlet", "abdominal_aorta"), (3, "outlet", "iliac_artery_left"),
        (4, "outlet", "iliac_artery_right")]
    lines, radii = zip(*shape().values(), strict=True)
    along = [lines[0][0] - lines[0][20], lines[1][-1] - lines[1][-20], lines[2][-1] - lines[2][-20]]
    for cap, way, radius in zip(made.boundaries[1:], along, (radii[0][0], DAUGHTER, DAUGHTER), strict=True):
        faces = closed(made).but(triangles=made.triangles_of(cap.tag))
        normals = faces.normals / np.linalg.norm(faces.normals, axis=1, keepdims=True)
        assert normals @ np.array(cap.normal) == pytest.approx(1, abs=1e-6)
        assert np.array(cap.normal) @ way / np.linalg.norm(way) > 0.99
        assert cap.area == pytest.approx(np.pi * radius**2 * 1e-6, rel=0.03)
        assert cap.area == pytest.approx(faces.area * 1e-6, rel=1e-9)
        assert cap.extension == pytest.approx((2.5 if cap.role == "inlet" else 2.0) * 2e-3 * radius, rel=0.02)
        rim = faces.points[np.unique(faces.edges[0][faces.edges[1] == 1])]
        reach = np.linalg.norm(rim - 1000 * np.array(cap.centre), axis=1)
        assert reach.std() < 0.02 * reach.mean()


def test_extensions_are_a_region_of_their_own(made: LumenMesh) -> None:
    volume = tetrahedra.volumes(made.points, made.tets)
    wanted = sum(b.extension * b.area for b in made.boundaries[1:])
    assert volume[made.region == 1].sum() == pytest.approx(wanted, rel=0.05)
    for cap in made.boundaries[1:]:
        near = np.isin(made.tets, made.triangles_of(cap.tag)).any(axis=1)
        assert (made.region[near] == 1).all()


def test_the_lumen_keeps_its_volume_and_its_narrowing(made: LumenMesh, inputs: MeshInputs, done: MeshOutputs) -> None:
    assert abs(read_quality(done.boundaries)["volume_change"]) < 0.01
    before, after = Cutter(surface_of(inputs.surface)), Cutter(closed(made))
    line = shape()["abdominal_aorta"][0]
    for z in (24.0, 26.0, 28.0):
        point, way = line[np.argmin(np.abs(line[:, 2] - z))], np.array([0.0, 0.0, 1.0])
        one, two = before.cut(point, way, 10.0), after.cut(point, way, 10.0)
        assert one is not None
        assert two is not None
        assert two.area == pytest.approx(one.area, rel=0.02)


def test_cells_are_small_where_the_vessel_is_narrow(made: LumenMesh) -> None:
    wall = made.triangles_of(WALL)
    points = 1000 * made.points
    z = points[wall].mean(axis=1)[:, 2]
    size = np.sqrt(closed(made).but(triangles=wall).normals.__pow__(2).sum(axis=1) ** 0.5)
    assert np.median(size[np.abs(z - THROAT_AT) < 3]) < 0.5 * np.median(size[(z > 3) & (z < 14)])


def test_the_same_settings_give_the_same_bytes(inputs: MeshInputs, done: MeshOutputs, tmp_path: Path) -> None:
    again = run(mesh, inputs, MeshConfig(cells_across=ACROSS), tmp_path / "mesh")
    assert again.mesh.read_bytes() == done.mesh.read_bytes()
    assert again.boundaries.read_bytes() == done.boundaries.read_bytes()


def test_layers_where_they_are_asked_for(inputs: MeshInputs, made: LumenMesh, tmp_path: Path) -> None:
    out = run(mesh, inputs, MeshConfig(cells_across=ACROSS, wall_layers=2), tmp_path / "mesh")
    found, told = read_lumen_mesh(out.mesh, out.boundaries), read_quality(out.boundaries)
    assert told["wall_layers"] == 2
    assert tetrahedra.is_conforming(found.tets)
    assert tetrahedra.volumes(1000 * found.points, found.tets).sum() == pytest.approx(closed(found).volume, rel=1e-9)
    assert told["min_scaled_jacobian"] >= 0.01
    assert not crossing_triangles(closed(found)).any()
    heights = first_heights(found)
    assert heights.max() < 0.2 * TRUNK
    assert np.median(heights) < 0.5 * np.median(first_heights(made))


def first_heights(found: LumenMesh) -> np.ndarray:
    """Height of each cell that stands on the wall over its triangle there, mm."""
    wall = {tuple(t): n for n, t in enumerate(np.sort(found.triangles_of(WALL), axis=1).tolist())}
    faces = np.sort(found.tets[:, tetrahedra.FACES], axis=2)
    volume = tetrahedra.volumes(1000 * found.points, found.tets)
    area = np.linalg.norm(closed(found).but(triangles=found.triangles_of(WALL)).normals, axis=1) / 2
    return np.array([3 * volume[c] / area[wall[key]] for c, four in enumerate(faces.tolist()) for face in four
                     if (key := tuple(face)) in wall])


# A treated vessel


@pytest.fixture(scope="module")
def treated(inputs: MeshInputs, done: MeshOutputs, tmp_path_factory: pytest.TempPathFactory) -> MeshInputs:
    """The fork with its narrowing opened by a stent, and what its mesh is to follow."""
    folder = tmp_path_factory.mktemp("treated")
    tree, before = tree_of(shape()), surface_of(inputs.surface)
    after = before.but(points=stent.deploy(before.points, tree, Stent(0, THROAT_AT, 16.0, 2 * TRUNK, 0.0)))
    formats.write_mesh(folder / "lumen.vtp", pyvista.PolyData.from_regular_faces(after.points, after.triangles), "mm")
    opened = shape() | {"abdominal_aorta": (shape()["abdominal_aorta"][0], np.full_like(shape()["abdominal_aorta"][1],
                                                                                       TRUNK))}
    formats.write_tree(folder / "tree.vtp", tree_of(opened))
    return MeshInputs(surface=folder / "lumen.vtp", centrelines=folder / "tree.vtp", untreated_surface=inputs.surface,
                      untreated_mesh=done.mesh, untreated_boundaries=done.boundaries)


def test_the_mesh_follows_a_device_and_stays_elsewhere(treated: MeshInputs, made: LumenMesh, tmp_path: Path) -> None:
    out = run(mesh, treated, MeshConfig(cells_across=ACROSS), tmp_path / "mesh")
    found, told = read_lumen_mesh(out.mesh, out.boundaries), read_quality(out.boundaries)
    assert told["method"].startswith("moved from the baseline's mesh (mmg+netgen")
    np.testing.assert_array_equal(found.tets, made.tets)
    far = np.abs(1000 * made.points[:, 2] - THROAT_AT) > 12 + 2.1 * TRUNK
    assert 0.3 < far.mean() < 0.9
    np.testing.assert_array_equal(found.points[far], made.points[far])
    assert told["min_scaled_jacobian"] > 0.05
    assert told["self_intersections"] == 0
    assert abs(told["volume_change"]) < 0.01
    assert found.boundaries[1:] == made.boundaries[1:]
    assert found.wall.area == pytest.approx(closed(found).but(triangles=found.triangles_of(WALL)).area * 1e-6, rel=1e-9)
    before, after = Cutter(surface_of(treated.surface)), Cutter(closed(found))
    line = shape()["abdominal_aorta"][0]
    for z in (22.0, THROAT_AT, 30.0):
        point, way = line[np.argmin(np.abs(line[:, 2] - z))], np.array([0.0, 0.0, 1.0])
        one, two = before.cut(point, way, 10.0), after.cut(point, way, 10.0)
        assert one is not None
        assert two is not None
        assert two.area == pytest.approx(one.area, rel=0.02)
        assert two.area == pytest.approx(np.pi * TRUNK**2, rel=0.04)


def test_a_device_that_changes_nothing_leaves_the_same_mesh(inputs: MeshInputs, treated: MeshInputs, done: MeshOutputs,
                                                            tmp_path: Path) -> None:
    nothing = treated.model_copy(update={"surface": inputs.surface})
    out = run(mesh, nothing, MeshConfig(cells_across=ACROSS), tmp_path / "mesh")
    assert out.mesh.read_bytes() == done.mesh.read_bytes()
    assert read_quality(out.boundaries)["volume_change"] == read_quality(done.boundaries)["volume_change"]


def led(treated: MeshInputs, **changes: Any) -> tuple[Leader, Surface, Tree, Plan]:
    """What `follow` is given, changed."""
    assert treated.untreated_mesh is not None
    assert treated.untreated_boundaries is not None
    assert treated.untreated_surface is not None
    leader = Leader(read_lumen_mesh(treated.untreated_mesh, treated.untreated_boundaries),
                    read_quality(treated.untreated_boundaries), surface_of(treated.untreated_surface))
    plan = Plan(ACROSS, 200_000, None, Extending(), child.Limits(), Gates())
    return replace(leader, **changes), surface_of(treated.surface), formats.read_tree(treated.centrelines), plan


def test_why_a_mesh_cannot_be_moved_is_told(treated: MeshInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.mesh.follow.EASED", 0.0)
    leader, surface, tree, plan = led(treated)
    assert follow(leader, surface, tree, plan)[1] == ""
    other = surface.but(triangles=surface.triangles[::-1])
    assert "other triangles" in follow(leader, other, tree, plan)[1]
    wide = surface.but(points=leader.surface.points * [1.05, 1.05, 1.0])
    assert "reaches an end" in follow(leader, wide, tree, plan)[1]
    assert "cells across" in follow(replace(leader, told=leader.told | {"cells_across": 9.0}), surface, tree,
                                    replace(plan, across=9.0))[1]
    assert "scaled Jacobians" in follow(leader, surface, tree, replace(plan, gates=Gates(least_jacobian=0.5)))[1]
    assert "not told: wall_layers" in follow(replace(leader, told={k: v for k, v in leader.told.items()
                                                                   if k != "wall_layers"}), surface, tree, plan)[1]
    through = surface.but(points=np.where((np.abs(surface.points[:, 2:] - THROAT_AT) < 4), surface.points * [-1, -1, 1],
                                          surface.points))
    assert "turn over" in follow(leader, through, tree, plan)[1]


def test_where_it_cannot_be_moved_it_is_meshed_anew(treated: MeshInputs, inputs: MeshInputs, tmp_path: Path) -> None:
    wide = surface_of(treated.surface)
    wide = wide.but(points=wide.points * [1.02, 1.02, 1.0])
    formats.write_mesh(tmp_path / "lumen.vtp", pyvista.PolyData.from_regular_faces(wide.points, wide.triangles), "mm")
    out = run(mesh, treated.model_copy(update={"surface": tmp_path / "lumen.vtp"}), MeshConfig(cells_across=1.8),
              tmp_path / "mesh")
    told = read_quality(out.boundaries)
    assert told["method"].startswith("mmg+netgen")
    assert told["method"].endswith("meshed anew: the device reaches an end of the vessel")
    assert told["cells_across"] == 1.8


Call = Callable[..., tuple[child.Arrays | None, str]]


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str, child.Arrays], str]) -> list[str]:
    """From here on a mesher dies where `fails` gives a reason; the names of those that were called."""
    real: Call = child.call
    called: list[str] = []

    def call(task: str, limits: child.Limits, **given: Any) -> tuple[child.Arrays | None, str]:
        called.append(task)
        why = fails(task, given)
        return (None, why) if why else real(task, limits, **given)

    monkeypatch.setattr(child, "call", call)
    return called


def test_another_mesher_when_the_first_fails(inputs: MeshInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                             ) -> None:
    failing(monkeypatch, lambda task, given: "ended with code -11" if task == "netgen" and given["delaunay"] else "")
    out = run(mesh, inputs, MeshConfig(cells_across=1.8), tmp_path / "mesh")
    told = read_quality(out.boundaries)
    assert told["method"].startswith("mmg+netgen_advancing")
    assert "code -11" in told["method"]
    assert told["cells_across"] == 1.8
    assert told["min_scaled_jacobian"] >= 0.05
    assert read_record(tmp_path / "mesh")["report"]["n_tets"] == told["n_tets"]


def test_a_higher_density_when_this_one_cannot_be_meshed(inputs: MeshInputs, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    first: list[float] = []

    def fails(task: str, given: child.Arrays) -> str:
        if task == "mmg_surface":
            first.append(given["size"].min())
        return "it folds" if task == "mmg_surface" and first[-1] > 0.93 * first[0] else ""

    failing(monkeypatch, fails)
    told = read_quality(run(mesh, inputs, MeshConfig(cells_across=2.0), tmp_path / "mesh").boundaries)
    assert 2.0 < told["cells_across"] < 2.0 * 1.23  # a mesh of 1.5 times as many cells across still is distinctly finer
    assert "instead of 2 cells across, as the one asked for failed" in told["method"]
    assert "it folds" in told["method"]


def test_no_way_left_is_told_soon(inputs: MeshInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mesher that runs out of time is not started again and again, nor one that would meet the same bad wall."""
    called = failing(monkeypatch, lambda task, given: f"{task} {child.OUT_OF_TIME} (1 s)" if task == "netgen" else "")
    with pytest.raises(DidNotConverge) as told:
        run(mesh, inputs, MeshConfig(cells_across=1.8), tmp_path / "mesh")
    assert told.value.code == "no_mesh"
    assert child.OUT_OF_TIME in str(told.value)
    assert called.count("netgen") == 2
    called = failing(monkeypatch, lambda task, given: "it folds")
    with pytest.raises(DidNotConverge):
        run(mesh, inputs, MeshConfig(cells_across=1.8), tmp_path / "mesh")
    assert len(called) <= 6


def test_no_cells_are_refused(inputs: MeshInputs, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as told:
        run(mesh, inputs, MeshConfig(cells_across=0), tmp_path / "mesh")
    assert told.value.code == "bad_density"


def test_native_calls_are_limited_in_time_and_may_die() -> None:
    points, faces = cylinder(60, 60, 5.0, 60.0)
    made, why = child.call("mmg_surface", child.Limits(seconds=1), points=points, triangles=faces,
                           size=np.full(len(points), 0.02), hausd=0.001, hgrad=1.3)
    assert made is None
    assert "mmg_surface" in why
    assert child.OUT_OF_TIME in why
    made, why = child.call("netgen", child.Limits(), points=points[:3])
    assert made is None
    assert "KeyError" in why


def test_an_open_surface_is_refused(inputs: MeshInputs, tmp_path: Path) -> None:
    points, faces = cylinder(20, 10, 5.0, 30.0)
    formats.write_mesh(tmp_path / "open.vtp", pyvista.PolyData.from_regular_faces(points, faces), "mm")
    with pytest.raises(BadInput) as told:
        run(mesh, inputs.model_copy(update={"surface": tmp_path / "open.vtp"}), MeshConfig(), tmp_path / "mesh")
    assert told.value.code == "surface_not_closed"


def test_files_of_two_meshes_are_not_mixed(done: MeshOutputs, tmp_path: Path) -> None:
    told = formats.read_json(done.boundaries)
    told["boundaries"].pop()
    formats.write_json(tmp_path / "boundaries.json", told)
    with pytest.raises(BadInput) as refused:
        read_lumen_mesh(done.mesh, tmp_path / "boundaries.json")
    assert refused.value.code == "boundaries_differ"


def test_into_dolfinx(made: LumenMesh) -> None:
    from solvers.geometry import dolfinx_mesh

    domain = dolfinx_mesh.load(made.points, made.tets, made.triangles, made.tags)
    fem, ufl = dolfinx_mesh.dolfinx.fem, dolfinx_mesh.ufl
    ds = ufl.Measure("ds", domain=domain.mesh, subdomain_data=domain.facets)
    for b in made.boundaries:
        area = fem.assemble_scalar(fem.form(fem.Constant(domain.mesh, 1.0) * ds(b.tag)))
        assert area == pytest.approx(b.area, rel=1e-9)
    np.testing.assert_allclose(domain.mesh.geometry.x, made.points[domain.original], atol=1e-15)


# The tools


def test_a_taper_is_not_narrowed_and_a_throat_is() -> None:
    points = curve([0, 0, 0], [0, 0, 30], [0, 0, 60])
    taper, throat = np.linspace(5, 2, len(points)), narrowed(points, TRUNK, 30.0, PERCENT, 16)
    for radius, at_end, in_middle in ((taper, 0.0, 0.0), (throat, 0.0, 1.0)):
        area = np.pi * radius**2
        narrow = sizing.narrowness(Branch(points, radius, area, area, area, -1, "abdominal_aorta"), 40.0)
        assert narrow[[0, -1]] == pytest.approx(at_end, abs=1e-9)
        assert narrow[len(narrow) // 2] == pytest.approx(in_middle, abs=1e-9)


def test_shape_of_the_regular_tetrahedron() -> None:
    points = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], float)
    tets = np.array([[0, 2, 1, 3]])
    tets = tets if tetrahedra.volumes(points, tets)[0] > 0 else tets[:, [0, 2, 1, 3]]
    assert tetrahedra.volumes(points, tets)[0] == pytest.approx(8 / 3)
    assert tetrahedra.scaled_jacobians(points, tets)[0] == pytest.approx(1)
    np.testing.assert_allclose(np.degrees(tetrahedra.dihedral_angles(points, tets)), np.degrees(np.arccos(1 / 3)))


def test_flat_cells_are_eased_and_the_boundary_stays() -> None:
    """The corners of a cube and a point near to one of its faces: the best place for that one is the middle."""
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    faces = np.array([(0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6), (0, 2, 6),
                      (0, 6, 4), (1, 5, 7), (1, 7, 3)])
    points = np.vstack([corners, [0.1, 0.2, 0.97]])
    tets = np.column_stack([faces[:, [0, 2, 1]], np.full(len(faces), 8)])
    tets = tets if tetrahedra.volumes(points, tets).min() > 0 else tets[:, [0, 2, 1, 3]]
    before, middle = tetrahedra.scaled_jacobians(points, tets).min(), np.vstack([corners, np.zeros(3)])
    eased = tetrahedra.eased(points, tets, np.arange(9) == 8, 0.9)
    assert 0 < before < 0.05
    assert tetrahedra.scaled_jacobians(eased, tets).min() == pytest.approx(
        tetrahedra.scaled_jacobians(middle, tets).min(), rel=0.1)
    np.testing.assert_array_equal(eased[:8], corners)


def test_crossings_are_found_and_neighbours_are_none() -> None:
    points, faces = cylinder(24, 8, 5.0, 20.0)
    assert not crossing_triangles(Surface(points, faces)).any()
    rod, sides = cylinder(8, 3, 1.0, 20.0)
    rod = rod[:, [2, 0, 1]] + [-2.0, 0.0, 9.3]
    both = crossing_triangles(Surface(np.vstack([points, rod]), np.vstack([faces, sides + len(points)])))
    hit = both[:len(faces)]
    assert 0 < hit.sum() < 30
    assert both[len(faces):].any()
    assert points[faces[hit]].mean(axis=(0, 1))[0] > 3


def test_layers_fill_the_ring_between_wall_and_core() -> None:
    points, faces = cylinder(32, 20, 5.0, 20.0)
    rims = [Rim(np.arange(32), np.array([0, 0, -1.0])), Rim(np.arange(20 * 32, 21 * 32), np.array([0, 0, 1.0]))]
    layering = Layering(3, 1.5, 0.25)
    grown = layers.grow(Surface(points, faces), rims, np.full(len(points), 1.25), layering)
    assert grown is not None
    assert grown.thinned == 0
    polygon = 32 / 2 * np.sin(2 * np.pi / 32)
    volume = tetrahedra.volumes(grown.points, grown.tets)
    assert volume.min() > 0
    assert volume.sum() == pytest.approx(polygon * (5.0**2 - 3.75**2) * 20, rel=0.003)
    levels = np.linalg.norm(grown.points[:, :2], axis=1).reshape(4, -1).mean(axis=1)
    np.testing.assert_allclose(np.diff(levels)[1:] / np.diff(levels)[:-1], 1.5, rtol=1e-3)


def test_layers_are_thinned_where_two_walls_are_near() -> None:
    """Asked for more than the radius, they stop before the axis."""
    points, faces = cylinder(32, 20, 5.0, 20.0)
    rims = [Rim(np.arange(32), np.array([0, 0, -1.0])), Rim(np.arange(20 * 32, 21 * 32), np.array([0, 0, 1.0]))]
    grown = layers.grow(Surface(points, faces), rims, np.full(len(points), 6.0), Layering(2, 1.2))
    assert grown is not None
    assert grown.thinned > 0.9
    assert tetrahedra.volumes(grown.points, grown.tets).min() > 0


def test_flat_triangles_become_round_and_stay_on_their_surface() -> None:
    points, faces = cylinder(24, 24, 5.0, 30.0)
    moved = points.copy()
    moved[24 * 12 + 3] += 0.93 * (points[24 * 12 + 4] - points[24 * 12 + 3])
    bad = Surface(moved, faces)
    good = triangles.rounded(bad)
    assert triangles.shapes(bad.points, bad.triangles).min() < 0.2
    assert triangles.shapes(good.points, good.triangles).min() > triangles.ROUND
    assert (good.edges[1] == 1).sum() == 48
    assert np.abs(np.linalg.norm(good.points[:, :2], axis=1) - 5.0).max() < 0.15


def test_a_stub_in_a_rim_is_drawn_together() -> None:
    """Two points a hair apart on the rim of a cut: the rim keeps its shape, and loses one of them."""
    points, faces = cylinder(24, 24, 5.0, 30.0)
    angle = 2 * np.pi * 0.06 / 24
    a, b, c = next(t for t in faces.tolist() if {0, 1} <= set(t) and t[0] == 0)
    split = np.vstack([points, [5 * np.cos(angle), 5 * np.sin(angle), 0.0]])
    keep = faces[(faces != [a, b, c]).any(axis=1)]
    bad = Surface(split, np.vstack([keep, [[a, len(points), c], [len(points), b, c]]]))
    assert (bad.edges[1] == 1).sum() == 49
    good = triangles.rounded(bad)
    assert len(good.points) == len(points)
    rim = good.edges[0][good.edges[1] == 1]
    length = np.linalg.norm(good.points[rim[:, 0]] - good.points[rim[:, 1]], axis=1)
    assert len(rim) == 48
    assert length.min() > triangles.STUB * length.mean()
    assert good.area == pytest.approx(Surface(points, faces).area, rel=2e-3)


def test_folds_are_smoothed_and_points_of_three_triangles_removed() -> None:
    points, faces = cylinder(24, 24, 5.0, 30.0)
    moved = points.copy()
    moved[24 * 12 + 3] += 2.5 * (points[24 * 12 + 4] - points[24 * 12 + 3])
    corner = len(points)
    a, b, c = faces[300]
    three = np.array([[a, b, corner], [b, c, corner], [c, a, corner]])
    bad = Surface(np.vstack([moved, points[faces[300]].mean(axis=0)]), np.vstack([np.delete(faces, 300, 0), three]))
    good = triangles.rounded(bad)
    assert len(good.points) == len(points)
    assert len(good.triangles) == len(faces)
    outward = np.einsum("ij,ij->i", good.normals, good.points[good.triangles].mean(axis=1) * [1, 1, 0])
    assert outward.min() > 0
    assert triangles.shapes(good.points, good.triangles).min() > triangles.ROUND


def test_a_dent_through_the_other_wall_is_untangled() -> None:
    points, faces = cylinder(24, 24, 5.0, 30.0)
    dented = points.copy()
    dented[24 * 12] = [-6.0, 0.3, points[24 * 12, 2]]
    assert crossing_triangles(Surface(dented, faces)).any()
    freed = triangles.untangled(Surface(dented, faces))
    assert not crossing_triangles(freed).any()
    far = np.abs(points[:, 2] - 15) > 8
    np.testing.assert_array_equal(freed.points[far], points[far])


def test_prisms_share_their_cuts() -> None:
    points, tets, faces, tags = tube(4, 6, 0.03, 0.004)
    assert tetrahedra.is_conforming(tets)
    assert set(tags) == {WALL, INLET, OUTLET}
    flat, around = cylinder(10, 5, 2.0, 6.0)
    outer = flat * [1.5, 1.5, 1.0]
    cut = tetrahedra.cut_prisms(around + len(flat), around)
    every = np.vstack([outer, flat])
    assert tetrahedra.is_conforming(cut)
    ring = 10 / 2 * np.sin(2 * np.pi / 10) * (3.0**2 - 2.0**2)
    assert np.abs(tetrahedra.volumes(every, cut)).sum() == pytest.approx(ring * 6, rel=1e-9)
    assert len(points) == 5 * 5 * 7
    assert len(faces) == 2 * 2 * 16 + 16 * 6 * 2
