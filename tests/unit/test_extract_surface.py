"""The surface of the lumen: closed, outward, sub-voxel, volume and stenosis kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from vessel_shapes import aorta_tubes, curve, grid_around, line, narrowed, tube_field

from pipeline import formats
from pipeline.extract_surface import (
    ExtractSurfaceConfig,
    ExtractSurfaceInputs,
    ExtractSurfaceOutputs,
    extract_surface,
)
from solvers.errors import BadInput
from solvers.geometry import isosurface, smoothing
from solvers.geometry.sections import Cutter
from solvers.geometry.volume import Volume

CYLINDER = [(line([0, 0, -30], [0, 0, 30]), np.full(601, 6.0))]


def capsule_volume(radius, length):
    return np.pi * radius**2 * (length + 4 / 3 * radius)


@pytest.mark.parametrize("spacing", [(0.9, 0.9, 1.5), (1.0, 1.0, 1.0), (2.0, 0.8, 0.8)])
@pytest.mark.parametrize("handedness", [1.0, -1.0])
def test_oblique_grids_of_either_handedness_give_the_same_body(spacing, handedness):
    turn = Rotation.from_euler("xyz", [20, 30, 10], degrees=True).as_matrix() @ np.diag([1.0, 1.0, handedness])
    field = tube_field(CYLINDER, *grid_around(CYLINDER, spacing, rotation=turn))
    surface = isosurface.extract(field)
    assert surface.is_closed and surface.euler == 2
    assert surface.volume == pytest.approx(capsule_volume(6.0, 60.0), rel=0.01)  # positive: normals point outward
    distance = np.linalg.norm(surface.points[:, :2], axis=1)[np.abs(surface.points[:, 2]) < 25]
    assert np.abs(distance - 6.0).max() < 0.12


def test_a_vessel_cut_by_the_image_border_gets_flat_caps():
    tube = [(line([10, 10, -5], [10, 10, 50]), np.full(551, 6.0))]
    surface = isosurface.extract(tube_field(tube, np.eye(4), (21, 21, 40)))
    assert surface.is_closed and surface.euler == 2
    assert surface.points[:, 2].min() == pytest.approx(-0.5) and surface.points[:, 2].max() == pytest.approx(39.5)
    assert surface.volume == pytest.approx(np.pi * 36 * 40, rel=0.015)


def test_smoothing_keeps_volume_and_does_not_narrow_a_stenosis():
    points = curve([0, 0, 0], [4, 2, 30], [0, 0, 60])
    radius = narrowed(points, 4.0, at=30.0, percent=65.0, length=12.0)
    tube = [(points, radius)]
    rough = isosurface.extract(tube_field(tube, *grid_around(tube, (0.9, 0.9, 1.5))))
    smooth = smoothing.solve(rough)
    assert abs(smooth.volume / rough.volume - 1) < 0.01
    k = int(radius.argmin())
    tangent = points[k + 5] - points[k - 5]
    tangent /= np.linalg.norm(tangent)
    areas = [Cutter(s).cut(points[k], tangent, 6.0).area for s in (rough, smooth)]
    assert areas[1] > 0.97 * areas[0]
    assert 2 * np.sqrt(areas[1] / np.pi) == pytest.approx(2 * radius.min(), abs=0.15)


def test_strong_smoothing_by_the_filter_without_its_swelling_step_would_fail_the_gate():
    rough = isosurface.extract(tube_field(CYLINDER, *grid_around(CYLINDER, 0.9)))
    shrunk = smoothing.solve(rough, smoothing.Taubin(passes=40, passband=1.2))
    assert abs(shrunk.volume / rough.volume - 1) > 0.01


def test_a_mask_alone_keeps_its_volume_and_loses_its_steps():
    field = tube_field(CYLINDER, *grid_around(CYLINDER, (0.9, 0.9, 1.5)))
    mask = field.but((field.values < 0).astype(np.uint8))
    surface = smoothing.solve(isosurface.extract(isosurface.level_field(mask)))
    assert surface.is_closed
    assert surface.volume == pytest.approx(mask.values.sum() * mask.voxel_volume, rel=0.01)
    middle = np.abs(surface.points[:, 2]) < 25
    assert np.linalg.norm(surface.points[middle, :2], axis=1).std() < 0.12


@settings(max_examples=8, deadline=None)
@given(st.tuples(*[st.floats(-90, 90)] * 3), st.booleans())
def test_moving_the_patient_moves_the_surface(angles, mirrored):
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([1, 1, -1.0 if mirrored else 1.0])
    short = [(line([0, 0, -6], [0, 0, 6]), np.full(121, 3.0))]
    field = tube_field(short, *grid_around(short, 0.9))
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = turn, [5.0, -7.0, 11.0]
    a, b = (isosurface.extract(Volume(field.values, m @ field.affine)) for m in (np.eye(4), moved))
    assert np.allclose(a.points @ turn.T + moved[:3, 3], b.points, atol=1e-6)
    assert b.volume == pytest.approx(a.volume) and b.volume > 0


def test_an_empty_field_is_refused():
    with pytest.raises(BadInput, match="no voxel"):
        isosurface.extract(Volume(np.ones((5, 5, 5)), np.eye(4)))


def test_the_stage_keeps_the_largest_part_and_orders_inner_lumen_outer(tmp_path):
    tubes = [*aorta_tubes().values(), (line([40, 40, 100], [40, 40, 104]), np.full(41, 2.0))]
    field = tube_field(tubes, *grid_around(tubes, (1.2, 1.2, 1.5)))
    hollow = field.values.copy()
    inside = np.unravel_index(hollow.argmin(), hollow.shape)
    hollow[inside] = 1.0  # a speck of noise within the lumen is no wall
    for name, values in (("lumen", hollow), ("inner", field.values + 0.3), ("outer", field.values - 0.3)):
        formats.write_volume(tmp_path / f"{name}.nii.gz", field.but(values))
    formats.write_volume(tmp_path / "labels.nii.gz", field.but(field.values < 0), np.uint8)
    inputs = ExtractSurfaceInputs(**{n: tmp_path / f"{n}.nii.gz" for n in ("labels", "lumen", "inner", "outer")})
    outputs = ExtractSurfaceOutputs().within(tmp_path)
    report = extract_surface(inputs, ExtractSurfaceConfig(), outputs)
    assert report.is_closed and report.n_handles == 0 and report.n_parts_left_out == 1
    assert abs(report.volume_change_by_smoothing) <= 0.01
    assert report.inner_volume_ml < report.volume_ml < report.outer_volume_ml
    mesh = formats.read_mesh(outputs.lumen, "mm")
    assert mesh.n_open_edges == 0 and mesh.volume / 1000 == pytest.approx(report.volume_ml, rel=1e-3)
    first = outputs.lumen.read_bytes()
    extract_surface(inputs, ExtractSurfaceConfig(), outputs)
    assert outputs.lumen.read_bytes() == first
