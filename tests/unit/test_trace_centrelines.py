"""Centrelines, areas, names and lesions of vessels whose answer is known."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from vessel_shapes import aorta_tubes, curve, grid_around, line, tube_field

from pipeline import formats
from pipeline.extract_surface import (
    ExtractSurfaceConfig,
    ExtractSurfaceInputs,
    ExtractSurfaceOutputs,
    extract_surface,
)
from pipeline.table import read_rows
from pipeline.trace_centrelines import (
    TraceCentrelinesConfig,
    TraceCentrelinesInputs,
    TraceCentrelinesOutputs,
    trace_centrelines,
)
from solvers.errors import BadInput
from solvers.geometry import branching, isosurface, naming, profiles, skeleton, smoothing
from solvers.geometry.sections import Cutter

SPREAD = 0.35


def trace(tubes, folder, method="own", anatomical=True, spacing=(0.9, 0.9, 1.5), **config):
    field = tube_field(tubes, *grid_around(tubes, spacing))
    for name, offset in (("lumen", 0.0), ("inner", SPREAD), ("outer", -SPREAD)):
        formats.write_volume(folder / f"{name}.nii.gz", field.but(field.values + offset))
    formats.write_volume(folder / "labels.nii.gz", field.but(field.values < 0), np.uint8)
    formats.write_json(folder / "volume.json", {"anatomical": anatomical})
    surfaces = ExtractSurfaceOutputs().within(folder)
    extract_surface(ExtractSurfaceInputs(**{n: folder / f"{n}.nii.gz" for n in ("labels", "lumen", "inner", "outer")}),
                    ExtractSurfaceConfig(), surfaces)
    inputs = TraceCentrelinesInputs(surface=surfaces.lumen, inner=surfaces.inner, outer=surfaces.outer,
                                    sidecar=folder / "volume.json", labels=folder / "labels.nii.gz")
    outputs = TraceCentrelinesOutputs().within(folder)
    return inputs, outputs, trace_centrelines(inputs, TraceCentrelinesConfig(method=method, **config), outputs)


@pytest.fixture(scope="module", params=["vmtk", "own"])
def aorta(request, tmp_path_factory):
    """The analytic aorta traced by either way, and its truth."""
    tubes = aorta_tubes(stenosis=60.0)
    folder = tmp_path_factory.mktemp(request.param)
    inputs, outputs, report = trace(list(tubes.values()), folder, request.param)
    assert report.method == request.param, report.method_note
    return tubes, outputs, report


def test_names_and_ends(aorta):
    tubes, outputs, report = aorta
    tree = formats.read_tree(outputs.centrelines)
    assert report.n_ends == 7 and report.side_verified and report.has_bifurcation
    assert {b.name for b in tree.branches} == set(tubes)
    for branch in tree.branches:
        known = np.isfinite(branch.area)  # the true lines stop where the rounded ends begin
        assert not known.any() or cKDTree(tubes[branch.name][0]).query(branch.points[known])[0].mean() < 0.3
        if branch.parent >= 0:
            gap = cKDTree(tree.branches[branch.parent].points).query(branch.points[0])[0]
            assert gap < 1e-6
    assert tree.branches[tree.root].points[0, 2] > 125  # from the head down


def test_every_place_of_the_true_line_is_near(aorta):
    tubes, outputs, _ = aorta
    found = np.vstack([b.points for b in formats.read_tree(outputs.centrelines).branches])
    truth = np.vstack([points for points, _ in tubes.values()])
    distance = cKDTree(found).query(truth)[0]
    assert distance.mean() < 0.3 and distance.max() < 3.0


def test_areas_and_radii(aorta):
    tubes, outputs, report = aorta
    assert report.assessed_length_fraction > 0.7
    for branch in formats.read_tree(outputs.centrelines).branches:
        points, radius = tubes[branch.name]
        known = np.isfinite(branch.area)
        if not known.any():
            assert branch.name == "abdominal_aorta" and branch.length < 10  # between the renal arteries
            continue
        truth = radius[cKDTree(points).query(branch.points[known])[1]]
        error = branch.area[known] / (np.pi * truth**2) - 1
        assert np.abs(np.median(error)) < 0.03 and np.percentile(np.abs(error), 85) < 0.06, branch.name
        assert np.median(np.abs(branch.radius[known] - truth)) < 0.25
        for area, sign in ((branch.area_inner, -1), (branch.area_outer, 1)):
            step = sign * (np.sqrt(area[known] / np.pi) - np.sqrt(branch.area[known] / np.pi))
            assert np.median(step) == pytest.approx(SPREAD, abs=0.08)


def test_the_one_lesion(aorta):
    tubes, outputs, report = aorta
    [lesion] = formats.read_lesions(outputs.lesions)
    truth = 2 * tubes["iliac_artery_left"][1].min()
    assert lesion.branch_name == "iliac_artery_left" and lesion.id == "L1"
    assert lesion.minimal_diameter == pytest.approx(truth, abs=0.3)
    assert lesion.percent_diameter_stenosis == pytest.approx(60, abs=3)
    assert report.n_lesions_below_resolution == 0  # three voxels are 3.2 mm here
    assert lesion.minimal_area_low < np.pi / 4 * truth**2 < lesion.minimal_area_high
    rows = [r for r in read_rows(outputs.measurements) if r.lesion == "L1"]
    diameter = next(r for r in rows if r.measure == "minimal_diameter")
    assert diameter.low < diameter.value < diameter.high and diameter.sources == "segmentation"
    assert all(r.unit for r in read_rows(outputs.measurements))


def test_without_trust_in_the_axes_no_side_is_told(aorta):
    tree = formats.read_tree(aorta[1].centrelines)
    named = naming.solve(tree, anatomical=False)
    assert not named.side_verified
    names = {b.name for b in named.tree.branches}
    assert names == {n.replace("_left", "_a").replace("_right", "_b") for n in aorta[0]}


def test_a_healthy_vessel_has_no_lesion_and_the_same_bytes_twice(tmp_path):
    tubes = [t for n, t in aorta_tubes(stenosis=0.0).items() if n.startswith(("abdominal", "iliac"))]
    inputs, outputs, report = trace(tubes, tmp_path, anatomical=False, spacing=(1.2, 1.2, 1.5))
    assert report.side_note == "side unverified" and report.n_ends == 3
    assert formats.read_lesions(outputs.lesions) == [] and report.n_lesions == 0
    first = outputs.centrelines.read_bytes()
    trace_centrelines(inputs, TraceCentrelinesConfig(method="own"), outputs)
    assert outputs.centrelines.read_bytes() == first


def test_when_vmtk_is_stopped_the_second_way_takes_over(tmp_path):
    points = curve([0, 0, 0], [5, 0, 20], [0, 0, 40])
    _, outputs, report = trace([(points, np.full(len(points), 4.0))], tmp_path, "vmtk", memory_limit_gb=0.001)
    assert report.method == "own" and "VMTK" in report.method_note
    [branch] = formats.read_tree(outputs.centrelines).branches
    assert branch.name == "abdominal_aorta" and branch.length == pytest.approx(49.3, abs=1.5)


def test_an_open_surface_is_refused(tmp_path):
    import pyvista

    formats.write_mesh(tmp_path / "open.vtp", pyvista.Cylinder(capping=False).triangulate(), "mm")
    with pytest.raises(BadInput) as error:
        trace_centrelines(TraceCentrelinesInputs(surface=tmp_path / "open.vtp"), TraceCentrelinesConfig(),
                          TraceCentrelinesOutputs().within(tmp_path))
    assert error.value.code == "surface_not_closed"


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, 40, 10), (80, -35, 60)])
def test_areas_of_oblique_cylinders_and_cones(angles):
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    points = line([0, 0, -25], [0, 0, 25]) @ turn.T
    for radius in (np.full(len(points), 3.0), np.linspace(6.0, 3.0, len(points))):
        tube = [(points, radius)]
        surface = smoothing.solve(isosurface.extract(tube_field(tube, *grid_around(tube, (0.9, 0.9, 1.5)))))
        cutter = Cutter(surface)
        for k in range(100, len(points) - 100, 40):
            area = cutter.cut(points[k], turn[:, 2], 10.0).area
            assert area == pytest.approx(np.pi * radius[k]**2, rel=0.03)


def test_a_section_is_the_loop_around_the_point_and_not_its_neighbour():
    tubes = [(line([x, 0, -15], [x, 0, 15]), np.full(301, r)) for x, r in ((0, 3.0), (9, 5.0))]
    cutter = Cutter(isosurface.extract(tube_field(tubes, *grid_around(tubes, 0.7))))
    z = np.array([0.0, 0.0, 1.0])
    assert cutter.cut(np.array([0.5, 0.5, 0.0]), z, 4.0).area == pytest.approx(np.pi * 9, rel=0.03)
    assert cutter.cut(np.array([9.0, 0.0, 0.0]), z, 4.0).area == pytest.approx(np.pi * 25, rel=0.03)
    assert cutter.cut(np.array([-6.0, 0.0, 0.0]), z, 4.0) is None


def test_bulges_are_not_branches():
    trunk, nub = line([0, 0, -40], [0, 0, 40]), line([0, 0, 0], [9, 0, 0])
    for tip, n_ends in ((9, 1), (30, 2)):
        nub = line([0, 0, 0], [tip, 0, 0])
        tubes = [(trunk, np.full(len(trunk), 6.0)), (nub, np.full(len(nub), 2.5))]
        surface = isosurface.extract(tube_field(tubes, *grid_around(tubes, 1.0)))
        ways = skeleton.ways(skeleton.body(skeleton.voxelised(surface, 0.8)))
        assert len(ways.points) == n_ends


@pytest.mark.verify
@pytest.mark.parametrize("scan", ["aorta_ct", "aorta_mra"])
def test_the_samples_true_masks(samples, tmp_path, scan):
    """The mask is what a perfect segmentation would give: names, and the lesion within half a voxel."""
    truth = samples / f"{scan}_truth"
    surfaces = ExtractSurfaceOutputs().within(tmp_path)
    extract_surface(ExtractSurfaceInputs(labels=truth / "mask.nii.gz"), ExtractSurfaceConfig(), surfaces)
    formats.write_json(tmp_path / "volume.json", {"anatomical": True})
    outputs = TraceCentrelinesOutputs().within(tmp_path)
    report = trace_centrelines(TraceCentrelinesInputs(surface=surfaces.lumen, sidecar=tmp_path / "volume.json"),
                               TraceCentrelinesConfig(), outputs)
    told, tree = formats.read_tree(truth / "centreline.vtp"), formats.read_tree(outputs.centrelines)
    assert {b.name for b in tree.branches} == {b.name for b in told.branches} and report.n_ends == 7
    found = np.vstack([b.points[np.isfinite(b.area)] for b in tree.branches])
    assert cKDTree(np.vstack([b.points for b in told.branches])).query(found)[0].mean() < 0.5
    [lesion], wanted = formats.read_lesions(outputs.lesions), formats.read_json(truth / "truth.json")["lesion"]
    assert lesion.branch_name == wanted["branch"]
    assert lesion.minimal_diameter == pytest.approx(wanted["minimal_diameter"], abs=0.3)


@pytest.mark.verify
def test_real_aorta_against_its_reference_centreline(shared, tmp_path):
    """Reference: VMTK's own line of the same surface (RAS, turned to LPS here)."""
    import pyvista

    folder, flip = shared / "scans" / "vmtk-aorta-mra" / "input", np.array([-1.0, -1.0, 1.0])
    mesh = pyvista.read(folder / "aorta-surface.vtp").triangulate().clean()
    surface = pyvista.PolyData.from_regular_faces(np.asarray(mesh.points, float) * flip, mesh.regular_faces)
    formats.write_mesh(tmp_path / "surface.vtp", surface, "mm")
    reference = np.asarray(pyvista.read(folder / "aorta-centerline.vtp").points, float) * flip
    for method in ("vmtk", "own"):
        outputs = TraceCentrelinesOutputs().within(tmp_path)
        report = trace_centrelines(TraceCentrelinesInputs(surface=tmp_path / "surface.vtp"),
                                   TraceCentrelinesConfig(method=method), outputs)
        found = np.vstack([b.points for b in formats.read_tree(outputs.centrelines).branches])
        assert report.names == ["abdominal_aorta", "iliac_artery_b", "iliac_artery_a"]
        assert report.n_lesions == 0
        assert cKDTree(found).query(reference)[0].mean() < 0.5


def test_two_ways_to_one_end_are_one_branch():
    trunk = [(line([0, 0, -40], [0, 0, 40]), np.full(801, 6.0)), (line([0, 0, 0], [30, 0, -10]), np.full(317, 3.0))]
    wall = branching.Wall(isosurface.extract(tube_field(trunk, *grid_around(trunk, 1.0))))
    down, aside = (branching.resampled(np.array(p, float), branching.FINE)
                   for p in ([[0, 0, 40], [0, 0, -40]], [[0, 0, 40], [0, 0, 0], [30, 0, -10]]))
    twice = [down, down + [0.1, 0, 0], aside, aside[:-1] + [0, 0.1, 0]]
    found = branching.stretches(twice, wall)
    assert [s.parent for s in found] == [-1, 0, 0]
    assert [s.parent for s in branching.stretches(twice[:2], wall)] == [-1]
    ends = [s.points[-1] for s in found]
    assert np.linalg.norm(ends[1] - down[-1]) < 1 and np.linalg.norm(ends[2] - aside[-1]) < 1
    assert branching.abscissa(branching.stretches(twice[:2], wall)[0].points)[-1] == pytest.approx(80, abs=0.5)


def test_wider_end_is_the_inlet_unless_the_axes_tell_better():
    points = line([0, 0, -40], [0, 0, 40])
    tube = [(points, np.linspace(6.0, 5.0, len(points)))]  # wider at the feet
    surface = isosurface.extract(tube_field(tube, *grid_around(tube, 1.0)))
    body = skeleton.body(skeleton.voxelised(surface, 0.8))
    assert skeleton.ways(body).points[0][0, 2] < -30
    assert skeleton.ways(body, superior_first=True).points[0][0, 2] > 30


def test_measure_and_naming_turn_with_the_patient():
    tubes = [(curve([0, 0, 50], [0, 0, 20], [0, 0, 0]), 8.0), (curve([0, 0, 0], [10, 2, -15], [16, 3, -45]), 4.5),
             (curve([0, 0, 0], [-10, 2, -15], [-16, 3, -45]), 5.0)]
    tubes = [(p, np.full(len(p), r)) for p, r in tubes]
    base = smoothing.solve(isosurface.extract(tube_field(tubes, *grid_around(tubes, 1.2))))
    turn = Rotation.from_euler("xyz", [50, -20, 70], degrees=True).as_matrix()
    names, areas = [], []
    for m in (np.eye(3), turn):
        surface = base.but(points=base.points @ m.T)
        wall, cutter = branching.Wall(surface), Cutter(surface)
        lines = [branching.to_both_ends(line(m @ [0, 0, 55], [0, 0, 0], 0.5), wall, 0.5)[:-40]]
        lines = [np.vstack([lines[0], branching.resampled(p[::20] @ m.T, branching.FINE)]) for p, _ in tubes[1:]]
        stretches = branching.stretches([branching.resampled(x, branching.FINE) for x in lines], wall)
        tree = profiles.measure(stretches, wall, profiles.Contours(cutter))
        names.append([b.name for b in naming.solve(tree).tree.branches])
        areas.append([np.nanmedian(b.area) for b in tree.branches])
    assert names[0] == names[1] == ["abdominal_aorta", "iliac_artery_b", "iliac_artery_a"]
    assert areas[0] == pytest.approx(areas[1], rel=0.01)
