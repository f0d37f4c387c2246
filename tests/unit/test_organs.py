"""Organs without weights: a made trunk whose organs nobody tuned on, what is not there, and the segment stage."""

import csv
from pathlib import Path

import numpy as np
import pytest
import trunk

from pipeline.segment import labels, organs
from pipeline.segment.result import Lumen
from solvers.geometry.volume import Volume
from solvers.imaging.organs import census, scan
from solvers.imaging.organs.census import Census

BELLY = (-90.0, 150.0)
GRID = (3.0, 3.0, 3.0)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * np.sum(a & b) / (a.sum() + b.sum()))


@pytest.fixture(scope="module")
def made() -> trunk.Trunk:
    return trunk.make(seed=11, contrast=True, z=BELLY, spacing=GRID)


@pytest.fixture(scope="module")
def found(made: trunk.Trunk) -> Census:
    return census.solve(scan.of(made.values, made.spacing))


@pytest.mark.parametrize(("name", "least"), [("liver", 0.9), ("spleen", 0.8), ("kidney_left", 0.8),
                                             ("kidney_right", 0.8), ("skeleton", 0.85), ("lung_left", 0.9)])
def test_organs_of_a_made_trunk(made: trunk.Trunk, found: Census, name: str, least: float) -> None:
    masks = {f.name: f.mask for f in found.found}
    assert name in masks, [m for m in found.missing if m.name == name]
    score = dice(masks[name], made.truth[name])
    print(f"{name} {score:.3f}")
    assert score > least


def test_whole_organs_are_told_from_cut_ones(found: Census) -> None:
    whole = {f.name: f.is_whole for f in found.found}
    assert whole["kidney_left"] and not whole["lung_left"]


def test_what_is_not_there_is_not_found() -> None:
    made = trunk.make(seed=12, contrast=False, z=BELLY, spacing=GRID, without=("spleen", "kidney_left"))
    missing = {m.name for m in census.solve(scan.of(made.values, made.spacing)).missing}
    assert {"spleen", "kidney_left", "heart", "hip_left", "femur_right"} <= missing


def test_a_body_cut_at_its_sides_is_refused(made: trunk.Trunk) -> None:
    inner = made.values[40:-40, 30:-30]
    result = census.solve(scan.of(inner, made.spacing))
    assert not result.found and {"liver", "spleen"} <= {m.name for m in result.missing}


def test_axes_of_the_image_need_not_be_anatomical(made: trunk.Trunk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask comes back on the grid it was asked for, whichever way its axes run."""
    given = made.values.transpose(2, 0, 1)[::-1]
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = -3.0, 3.0, 3.0, 1.0

    def bright(small: scan.Scan) -> Census:
        return Census((census.Found("liver", small.values > 100, 0.5, True),), ())

    monkeypatch.setattr(organs.census, "solve", bright)
    mask = organs.find(Volume(given, affine), None).found["liver"].mask
    assert mask.shape == given.shape
    assert dice(mask, given > 100) > 0.6 > dice(mask[::-1], given > 100)


def test_the_edge_on_the_fine_grid_keeps_the_volume() -> None:
    fine = np.stack(np.meshgrid(*[np.arange(n) - n / 2 for n in (80, 80, 60)], indexing="ij"))
    ball = np.sqrt((fine**2).sum(0)) < 24
    small = scan.of(ball.astype(np.float32), np.array([0.8, 0.8, 1.2]))
    assert dice(small.fine(small.values > 0.5), ball) > 0.97


def test_labels_say_what_is_whole(tmp_path: Path) -> None:
    shape = (12, 12, 12)
    field = np.full(shape, 3.0)
    field[5:7, 5:7] = -1.0
    masks = {name: np.zeros(shape, bool) for name in ("liver", "spleen")}
    masks["liver"][2:5, 2:5, 2:5] = True
    masks["spleen"][8:, 8:, 8:] = True
    lumen = Lumen("given mask", field, np.ones(shape), np.zeros(shape, bool), 3.0, 1.0)
    known = organs.Organs({n: organs.Organ(m, 0.8, n == "liver") for n, m in masks.items()}, {})
    labels.write_table(tmp_path / "t.tsv", labels.compose(Volume(field, np.eye(4)), lumen, {}, known))
    with (tmp_path / "t.tsv").open(encoding="utf-8") as file:
        rows = {row["name"]: row["whole"] for row in csv.DictReader(file, delimiter="\t")}
    assert rows == {"arterial_lumen": "no", "liver": "yes", "spleen": "no"}
