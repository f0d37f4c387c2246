"""Segmentation: the lumen of a made angiogram, refusal of a native one, masks that were given, the solvers' parts."""

import csv
from pathlib import Path

import numpy as np
import pytest
import thorax
from angiograms import Angiogram, make
from pytest import approx
from scipy import ndimage
from thorax import Thorax

from pipeline import formats
from pipeline.segment import SegmentConfig, SegmentInputs, SegmentOutputs, segment
from pipeline.stage import run
from solvers.errors import BadInput
from solvers.geometry import skeleton
from solvers.geometry.volume import Volume
from solvers.imaging import discs, distance, edges, heart, vessels, wavefront
from solvers.library import anatomy


def save(path: Path, values: np.ndarray, spacing: np.ndarray, shift: float = 0.0) -> Path:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -50.0 + shift
    formats.write_volume(path, Volume(values, affine))
    return path


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.sum(a & b) / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def scan() -> Angiogram:
    return make(seed=7)


@pytest.fixture(scope="module")
def done(scan: Angiogram, tmp_path_factory: pytest.TempPathFactory) -> SegmentOutputs:
    home = tmp_path_factory.mktemp("segment")
    volume = save(home / "volume.nii.gz", np.round(scan.values).astype(np.int16), scan.spacing)
    return run(segment, SegmentInputs(volume=volume), SegmentConfig(), home / "segment")


def test_lumen_overlaps_the_truth(scan: Angiogram, done: SegmentOutputs) -> None:
    field = formats.read_volume(done.lumen).values
    assert dice(field < 0, scan.truth < 0) > 0.96


def edge_error(scan: Angiogram, field: np.ndarray) -> np.ndarray:
    """Distance of the found edge from the true one at the found edge's crossings along i, mm, outward positive."""
    inside = field < 0
    cross = np.argwhere(inside[1:] != inside[:-1])
    cross = cross[np.all((cross > 2) & (cross < np.array(field.shape) - 4), axis=1)]
    a, b = field[tuple(cross.T)], field[tuple((cross + (1, 0, 0)).T)]
    part = a / (a - b)
    t, u = scan.truth[tuple(cross.T)], scan.truth[tuple((cross + (1, 0, 0)).T)]
    return t + part * (u - t)


def test_edge_lies_within_a_part_of_a_voxel(scan: Angiogram, done: SegmentOutputs) -> None:
    error = edge_error(scan, formats.read_volume(done.lumen).values)
    assert np.mean(np.abs(error)) < 0.2
    assert abs(np.median(error)) < 0.1


def test_most_of_the_true_edge_lies_between_the_contours(scan: Angiogram, done: SegmentOutputs) -> None:
    inner, outer = (formats.read_volume(path).values for path in (done.inner, done.outer))
    field = formats.read_volume(done.lumen).values
    edge = np.abs(scan.truth) < 0.12
    edge[:2] = edge[-2:] = edge[:, :2] = edge[:, -2:] = edge[:, :, :2] = edge[:, :, -2:] = False
    share = np.mean((inner[edge] > scan.truth[edge]) & (outer[edge] < scan.truth[edge]))
    assert 0.5 < share < 0.9
    assert np.all(outer <= field) and np.all(field <= inner)


def test_narrowest_diameter_beside_calcium(scan: Angiogram, done: SegmentOutputs) -> None:
    i, j, k = np.round(scan.throat / scan.spacing).astype(int)
    box = np.s_[i - 8:i + 9, j - 8:j + 9]
    spacing = scan.spacing

    def diameter(field: np.ndarray, n: int) -> float:
        share = np.clip(0.5 - field[box][..., n] / spacing[0], 0, 1)
        return float(np.sqrt(4 / np.pi * share.sum() * spacing[0] * spacing[1]))

    found = formats.read_volume(done.lumen).values
    assert diameter(found, k) == approx(diameter(scan.truth, k), abs=0.35)


def test_vein_and_bone_that_touch_stay_outside(scan: Angiogram, done: SegmentOutputs) -> None:
    found = formats.read_volume(done.lumen).values < 0
    assert np.sum(found & (scan.truth > 2.0)) * np.prod(scan.spacing) < 300  # mm^3: the renal artery's end


def test_labels_have_names_codes_and_volumes(done: SegmentOutputs) -> None:
    with Path(done.table).open(encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}
    labels = formats.read_volume(done.labels)
    assert {"arterial_lumen", "body", "skeleton", "arterial_calcification"} <= set(rows)
    for name, row in rows.items():
        assert row["snomed"] == anatomy.structure(name).snomed
        ml = np.sum(labels.values == int(row["index"])) * labels.voxel_volume / 1000
        assert float(row["volume_ml"]) == approx(ml, abs=1e-3)
    assert Path(done.preview).stat().st_size > 10_000


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1)])
def test_axes_of_the_image_need_not_be_anatomical(order: tuple[int, int, int]) -> None:
    scan = make(seed=3, flip=order)
    found = vessels.solve(scan.values, scan.spacing, is_ct=True)
    mask = np.zeros(scan.values.shape, bool)
    mask[found.window] = found.edge.field < 0
    assert dice(mask, scan.truth < 0) > 0.95


def test_native_scan_is_refused() -> None:
    scan = make((92, 70, 70), contrast=45.0, stenosis=0.0, vein=False)
    with pytest.raises(BadInput) as error:
        vessels.solve(scan.values, scan.spacing, is_ct=True)
    assert error.value.code == "no_contrast_vessel"


def test_two_runs_write_the_same_bytes(scan: Angiogram, done: SegmentOutputs, tmp_path: Path) -> None:
    volume = save(tmp_path / "v.nii.gz", np.round(scan.values).astype(np.int16), scan.spacing)
    again = run(segment, SegmentInputs(volume=volume), SegmentConfig(), tmp_path / "again")
    for name in done.paths():
        assert Path(getattr(done, name)).read_bytes() == Path(getattr(again, name)).read_bytes(), name


def ball(shape: int, spacing: np.ndarray, radius: float) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.arange(shape) * h for h in spacing], indexing="ij"))
    return np.linalg.norm(grid - grid.max((1, 2, 3), keepdims=True) / 2, axis=0) - radius


def test_given_mask_is_the_lumen(tmp_path: Path) -> None:
    spacing = np.array([0.8, 0.8, 1.2])
    field = ball(40, spacing, 9.0)
    volume = save(tmp_path / "v.nii.gz", np.where(field < 0, 300, 0).astype(np.int16), spacing)
    mask = save(tmp_path / "m.nii.gz", (field < 0).astype(np.uint8), spacing)
    out = run(segment, SegmentInputs(volume=volume, labels_given=mask), SegmentConfig(), tmp_path / "s")
    found = formats.read_volume(out.lumen).values
    near = np.abs(field) < 1
    assert np.abs(found - field)[near].mean() < 0.15
    assert dice(found < 0, field < 0) > 0.99


def test_arteries_of_a_label_map_are_merged(tmp_path: Path) -> None:
    spacing = np.ones(3)
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[15:25, 15:25, 20:] = 3
    labels[15:25, 15:25, :20] = 5
    labels[:8] = 9
    table = tmp_path / "labels.tsv"
    table.write_text("index\tname\n3\taorta\n5\tiliac_artery_left\n9\tinferior_vena_cava\n")
    volume = save(tmp_path / "v.nii.gz", np.zeros(labels.shape, np.int16), spacing)
    mask = save(tmp_path / "m.nii.gz", labels, spacing)
    with pytest.raises(BadInput) as error:
        run(segment, SegmentInputs(volume=volume, labels_given=mask), SegmentConfig(), tmp_path / "r")
    assert error.value.code == "labels_without_artery"
    out = run(segment, SegmentInputs(volume=volume, labels_given=mask, table_given=table), SegmentConfig(),
              tmp_path / "s")
    assert dice(formats.read_volume(out.lumen).values < 0, (labels == 3) | (labels == 5)) > 0.95


@pytest.mark.parametrize(("shift", "value", "code"), [(500.0, 1, "mask_outside_image"), (0.0, 0, "empty_mask")])
def test_wrong_mask_is_refused(tmp_path: Path, shift: float, value: int, code: str) -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:15, 5:15] = value
    volume = save(tmp_path / "v.nii.gz", np.zeros(labels.shape, np.int16), np.ones(3))
    mask = save(tmp_path / "m.nii.gz", labels, np.ones(3), shift)
    with pytest.raises(BadInput) as error:
        run(segment, SegmentInputs(volume=volume, labels_given=mask), SegmentConfig(), tmp_path / "s")
    assert error.value.code == code


def test_reinitialised_field_is_a_distance() -> None:
    spacing = np.array([0.8, 0.8, 1.2])
    field = ball(40, spacing, 9.0)
    found = distance.reinitialise(np.tanh(field / 3) * 40, spacing, 3.0)
    near = np.abs(field) < 2.5
    assert np.abs(found - field)[near].max() < 0.5
    assert np.abs(found - field)[np.abs(field) < 0.8].mean() < 0.05


def test_curvature_of_a_ball() -> None:
    spacing = np.array([0.8, 0.8, 1.2])
    field = ball(40, spacing, 9.0)
    assert np.median(distance.curvature(field, spacing, 1.0)[np.abs(field) < 0.5]) == approx(2 / 9, rel=0.05)


def test_front_stops_where_it_widens() -> None:
    shape = (60, 60, 60)
    trunk, room = np.zeros(shape, bool), np.zeros(shape, bool)
    trunk[24:36, 24:36] = True
    pipe = np.zeros(shape, bool)
    pipe[36:46, 28:32, 28:32] = True
    room[46:, 5:55, 5:55] = True
    branch = np.zeros(shape, bool)
    branch[2:24, 27:33, 40:46] = True
    grown = wavefront.grow(trunk | pipe | room | branch, trunk, np.zeros(shape, bool), np.ones(3),
                           wavefront.LeakControl())
    assert grown.n_leaks >= 1
    assert not np.any(grown.mask[48:])
    assert np.all(grown.mask[branch])


def test_the_metal_of_a_stent_does_not_narrow_the_lumen() -> None:
    """Struts in the wall of a tube of 9 mm radius, 450 HU in 50 HU: its section is that without them."""
    spacing = np.full(3, 1.5)
    x, y, z = (np.arange(n) * 1.5 for n in (30, 30, 24))
    offset = np.stack(np.meshgrid(x - x.mean(), y - y.mean(), z, indexing="ij"))
    away, angle = np.hypot(offset[0], offset[1]), np.arctan2(offset[1], offset[0])
    struts = (np.abs(away - 9.6) < 0.8) & (np.cos(6 * angle + offset[2] / 2) > 0)
    image = ndimage.gaussian_filter(np.where(struts, 2500.0, np.where(away < 9, 450.0, 50.0)), 0.5)
    image += np.random.default_rng(2).normal(0, 15, image.shape)
    field = edges.solve(image, away < 7.5, spacing, 15.0, edges.HalfMaximum(limit=4.5, wall=45.0)).field
    area = np.clip(0.5 - field / 1.5, 0, 1).sum((0, 1))[4:-4] * 2.25
    assert np.sqrt(area / np.pi) == approx(9.0, abs=0.4)


def test_tunnels_are_closed_and_forks_stay() -> None:
    mask = np.zeros((20, 40, 20), bool)
    mask[4:16, 4:20, 4:16] = True
    mask[4:8, 20:36, 4:16] = mask[9:16, 20:36, 4:16] = True  # two limbs, one voxel apart
    fork = mask.copy()
    mask[4:16, 10, 10] = False
    closed = edges.without_tunnels(mask)
    assert closed[5:15, 10, 10].all()
    assert not np.any(closed & ~fork)
    assert np.array_equal(edges.without_tunnels(fork), fork)


@pytest.mark.parametrize(("gap", "n"), [(300.0, 1), (40.0, 2)])
def test_a_tube_goes_on_behind_slices_that_are_not_round(gap: float, n: int) -> None:
    def tube(z: np.ndarray) -> discs.Tube:
        same = {"radius": 6.0, "lumen": 300.0, "around": 40.0, "noise": 10.0, "axis": 2, "doubt": 0.0}
        centre = np.column_stack([0 * z + 20, 0 * z + 20, z])
        return discs.Tube(discs.Discs(centre, **{k: np.full(len(z), v) for k, v in same.items()}), float(np.ptp(z)))

    values = np.full((40, 40, 80), 300.0)
    values[:, :, 32:38] = gap
    tubes = discs.bridged([tube(np.arange(0.0, 30.0)), tube(np.arange(40.0, 80.0))], values, np.ones(3))
    assert len(tubes) == n
    assert tubes[0].length == (79.0 if n == 1 else 39.0)


def test_noise_is_measured() -> None:
    rng = np.random.default_rng(4)
    assert edges.noise_of(rng.normal(0, 12.0, (30, 30, 30))) == approx(12, rel=0.05)


def test_anatomy_is_one_consistent_table() -> None:
    table = anatomy.structures()
    assert len({s.index for s in table.values()}) == len(table)
    assert all(s.snomed.isdigit() and len(s.colour) == 7 for s in table.values())
    assert anatomy.structure("renal_artery_left").laterality == "7771000"
    assert anatomy.is_artery("iliac_artery_left") and not anatomy.is_artery("pulmonary_artery")
    assert not anatomy.is_artery("kidney_left")


def seen(scan: Thorax) -> tuple[vessels.Arteries, np.ndarray, np.ndarray, np.ndarray]:
    """What is found in a chest: arteries, and on the whole grid aorta, its lumen and false lumen."""
    found = vessels.solve(scan.values, scan.spacing, is_ct=True,
                          half_maximum=edges.HalfMaximum(limit=6.0, wall=45.0))
    masks = np.zeros((3, *scan.values.shape), bool)
    parts = (found.aorta.whole, found.aorta.whole & (found.edge.field < 0), found.aorta.false_lumen)
    for mask, part in zip(masks, parts, strict=True):
        mask[found.window] = part
    return found, *masks


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.verify) for n in (2, 3, 4, 5))])
def test_the_heart_behind_an_open_valve_stays_out(seed: int) -> None:
    scan = thorax.make(seed)
    found, aorta, _, false_lumen = seen(scan)
    assert dice(aorta, scan.aorta) > 0.95
    assert found.valve is not None
    assert np.linalg.norm(found.valve * scan.spacing - scan.valve) < 6.0
    assert found.aorta.state == "none" and not false_lumen.any()


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.verify) for n in (2, 3, 4, 5))])
def test_both_lumens_of_a_dissection_are_found(seed: int) -> None:
    scan = thorax.make(seed, false_contrast=0.55)
    found, aorta, lumen, false_lumen = seen(scan)
    assert found.aorta.state == "contrast"
    assert dice(aorta, scan.aorta) > 0.93
    assert dice(lumen, scan.true_lumen) > 0.93
    assert dice(false_lumen, scan.false_lumen) > 0.85


@pytest.mark.verify
def test_a_second_lumen_full_of_clot_is_told_and_not_guessed() -> None:
    scan = thorax.make(1, false_contrast=0.0)
    found, _, lumen, false_lumen = seen(scan)
    assert found.aorta.state == "no contrast" and not false_lumen.any()
    assert dice(lumen, scan.true_lumen) > 0.93


def test_an_aneurysm_is_no_heart() -> None:
    """A tube that widens to twice its radius without a neck before; behind a neck the same room is a chamber."""
    x, y, z = np.meshgrid(*[np.arange(n) * 2.0 for n in (50, 50, 90)], indexing="ij")
    away = np.hypot(x - 50, y - 50)
    core = (away < 8) & (np.abs(z - 40) < 8)
    wide = away < np.where(z < 110, 12, 26)
    assert heart.solve(wide, core, 12.0, np.full(3, 2.0)).centre is None
    necked = away < np.where(z < 100, 12, np.where(z < 112, 7, 26))
    found = heart.solve(necked, core, 12.0, np.full(3, 2.0))
    assert found.centre is not None and 94 < found.centre[2] < 114
    assert found.mask[:, :, 60:].sum() == necked[:, :, 60:].sum() and not found.mask[:, :, :46].any()


def test_a_flat_lumen_has_no_side_branches() -> None:
    """A lumen 6 mm by 22 mm, bent; and a branch of 5 mm that leaves it is one."""
    x, y, z = np.meshgrid(np.arange(60.0), np.arange(60.0), np.arange(120.0), indexing="ij")
    bend = 30 + 6 * np.sin(z / 25)
    flat = ((y - bend) / 3) ** 2 + ((x - 25) / 11) ** 2 < 1
    ways = skeleton.ways(skeleton.body(Volume(flat, np.eye(4))))
    assert len(ways.points) == 1
    branch = np.hypot(y - 30 - 6 * np.sin(60 / 25), z - 60) < 2.5
    ways = skeleton.ways(skeleton.body(Volume(flat | branch & (x > 25), np.eye(4))))
    assert len(ways.points) == 2
