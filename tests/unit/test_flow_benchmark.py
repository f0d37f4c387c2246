"""What the benchmark of flow does where OpenFOAM is absent, and the mesh that it would give it."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import flow, openfoam, stenosis
from benchmarks.openfoam import Case
from solvers.errors import MissingTool


def test_without_openfoam_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(flow.shutil, "which", lambda _name: None)
    monkeypatch.setattr(sys, "argv", ["flow"])
    with pytest.raises(MissingTool, match="apt-get install --no-install-recommends openfoam"):
        flow.main()


def read(folder, name):
    """Rows of numbers of one file of the mesh."""
    body = (folder / "constant/polyMesh" / name).read_text().split("\n(\n")[1]
    return np.array([re.findall(r"[-+.\de]+", row) for row in body.splitlines()[:-1]], float)


def test_our_tetrahedra_in_openfoams_form(tmp_path):
    """Faces point from their owner to a neighbour of a higher number, cells are closed, all of them fill the tube."""
    n = openfoam.write(Case("pimpleFoam", "tetrahedra", 2, 1, 0.01, 10), tmp_path)
    points, owner, neighbour = (read(tmp_path, name) for name in ("points", "owner", "neighbour"))
    faces = read(tmp_path, "faces")[:, 1:].astype(int)
    owner, neighbour = owner.ravel().astype(int), neighbour.ravel().astype(int)
    a, b, c = (points[faces[:, k]] for k in range(3))
    area = np.cross(b - a, c - a) / 2
    around = np.zeros((n, 3))
    np.add.at(around, owner, area)
    np.add.at(around, neighbour, -area[:len(neighbour)])
    assert (owner[:len(neighbour)] < neighbour).all()
    assert np.abs(around).max() < 1e-9 * np.abs(area).max()
    volume = np.einsum("fk,fk->", area[len(neighbour):], (a + b + c)[len(neighbour):]) / 9
    z = np.linspace(0, stenosis.LENGTH, 1001)
    assert volume == pytest.approx(np.trapezoid(np.pi * stenosis.radius(z) ** 2, z), rel=0.02)


def test_the_error_of_a_run_is_relative_to_the_largest():
    time = np.linspace(0.1, 1, 10)
    fine = stenosis.Seen(time, np.sin(time), np.ones((5, 200, 3)))
    off = replace(fine, drop=fine.drop + 0.1 * fine.drop.max(), velocity=1.2 * fine.velocity)
    assert stenosis.difference(fine, fine) == (0, 0)
    assert stenosis.difference(off, fine) == pytest.approx((0.1, 0.2))
