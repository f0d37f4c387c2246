"""A stent on a narrowed tube whose every section is known."""

from pathlib import Path

import numpy as np
import pytest
import pyvista

from pipeline import formats
from pipeline.intervene import InterveneConfig, InterveneInputs, intervene
from pipeline.stage import read_record, run
from solvers.errors import BadInput
from solvers.geometry.centrelines import Branch, Lesion, Tree

LENGTH, RADIUS, THROAT = 80.0, 4.0, 1.6


def radius_at(z: np.ndarray) -> np.ndarray:
    inside = np.abs(z - 40) < 10
    return np.where(inside, RADIUS - (RADIUS - THROAT) * (1 + np.cos(np.pi * (z - 40) / 10)) / 2, RADIUS)


@pytest.fixture
def vessel(tmp_path: Path) -> InterveneInputs:
    """A closed tube along z with a cosine narrowing, its centreline and its lesion."""
    line = pyvista.Line((0, 0, 0), (0, 0, LENGTH), resolution=320)
    line.point_data["r"] = radius_at(line.points[:, 2])
    tube = line.tube(scalars="r", absolute=True, n_sides=60, capping=True).triangulate().clean()
    formats.write_mesh(tmp_path / "lumen.vtp", pyvista.PolyData(tube.points, tube.faces), "mm")
    z = np.linspace(0, LENGTH, 161)
    r = radius_at(z)
    area = np.pi * r**2
    branch = Branch(np.column_stack([0 * z, 0 * z, z]), r, area, area * 0.9, area * 1.1, -1, "iliac_artery_left")
    formats.write_tree(tmp_path / "tree.vtp", Tree((branch,)))
    throat = np.pi * THROAT**2
    lesion = Lesion("L1", 0, branch.name, 40.0, 31.0, 49.0, 18.0, throat, throat * 0.9, throat * 1.1, 2 * THROAT,
                    2 * RADIUS, 60.0)
    formats.write_lesions(tmp_path / "lesions.json", [lesion])
    return InterveneInputs(surface=tmp_path / "lumen.vtp", centrelines=tmp_path / "tree.vtp",
                           lesions=tmp_path / "lesions.json")


def test_the_right_stent_opens_the_lesion(vessel: InterveneInputs, tmp_path: Path) -> None:
    out = run(intervene, vessel, InterveneConfig(), tmp_path / "intervene")
    after = formats.read_lesions(out.lesions)[0]
    assert after.minimal_diameter == pytest.approx(2 * RADIUS, rel=0.01)
    assert after.percent_diameter_stenosis < 2
    report = read_record(tmp_path / "intervene")["report"]
    assert report["lesions_treated"] == ["L1"]
    assert report["final_diameter_mm"] == pytest.approx(2 * RADIUS, rel=1e-6)


def test_recoil_narrows_the_device(vessel: InterveneInputs, tmp_path: Path) -> None:
    out = run(intervene, vessel, InterveneConfig(diameter="7 mm", recoil=0.1), tmp_path / "intervene")
    assert formats.read_lesions(out.lesions)[0].minimal_diameter == pytest.approx(6.3, rel=0.01)


def test_a_device_of_the_vessels_own_shape_changes_nothing(vessel: InterveneInputs, tmp_path: Path) -> None:
    out = run(intervene, vessel, InterveneConfig(diameter="own"), tmp_path / "intervene")
    before, after = (formats.read_mesh(p, "mm").points for p in (vessel.surface, out.lumen))
    np.testing.assert_array_equal(after, before)
    one, two = (formats.read_tree(p).branches[0] for p in (vessel.centrelines, out.centrelines))
    for name in ("points", "radius", "area", "area_inner", "area_outer"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert formats.read_lesions(out.lesions)[0].minimal_diameter == pytest.approx(2 * THROAT, rel=0.01)


def test_nothing_is_narrowed_and_far_walls_stay(vessel: InterveneInputs, tmp_path: Path) -> None:
    out = run(intervene, vessel, InterveneConfig(length="20 mm", diameter="9 mm"), tmp_path / "intervene")
    before, after = (np.asarray(formats.read_mesh(p, "mm").points) for p in (vessel.surface, out.lumen))
    grown = np.linalg.norm(after[:, :2], axis=1) - np.linalg.norm(before[:, :2], axis=1)
    assert grown.min() > -1e-5
    assert np.abs(grown[np.abs(before[:, 2] - 40) > 15]).max() < 1e-5


@pytest.mark.parametrize(("settings", "code"), [
    ({"length": "100 mm"}, "stent_too_long"),
    ({"diameter": "8 cm"}, "stent_too_wide"),
    ({"lesion": "L7"}, "unknown_lesion"),
    ({"branch": "aorta"}, "unknown_branch"),
    ({"branch": "iliac_artery_left"}, "incomplete_device"),
])
def test_what_cannot_be_done_is_refused(vessel: InterveneInputs, tmp_path: Path, settings: dict[str, str],
                                        code: str) -> None:
    with pytest.raises(BadInput) as refused:
        run(intervene, vessel, InterveneConfig(**settings), tmp_path / "intervene")
    assert refused.value.code == code
    assert not (tmp_path / "intervene").exists()


def test_a_vessel_without_a_lesion_needs_a_place(vessel: InterveneInputs, tmp_path: Path) -> None:
    formats.write_lesions(vessel.lesions, [])
    with pytest.raises(BadInput, match="no narrowing"):
        run(intervene, vessel, InterveneConfig(), tmp_path / "intervene")
    by_hand = InterveneConfig(branch="iliac_artery_left", position="40 mm", length="20 mm", diameter="8 mm")
    assert run(intervene, vessel, by_hand, tmp_path / "intervene").lumen.is_file()
