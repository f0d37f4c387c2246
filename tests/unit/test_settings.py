"""Settings: units, suggestions, and every error at once with its line."""

from pathlib import Path

import pytest

from pipeline.stage import Config
from solvers.units import Length, Pressure, parse
from workflows import settings
from workflows.settings import BadSettings


class Grid(Config):
    edge_length: Length = "1.2 mm"
    wall_layers: int = 3


class Whole(Config):
    mesh: Grid = Grid()
    pressure: Pressure = "120 mmHg"


def test_quantities_are_si_and_remember_their_text() -> None:
    grid = Grid(edge_length="0.5 cm")
    assert grid.edge_length == pytest.approx(0.005)
    assert grid.model_dump(mode="json")["edge_length"] == "0.5 cm"
    assert Grid.model_validate(grid.model_dump(mode="json")) == grid
    assert Whole().pressure == pytest.approx(15998.7, abs=0.1)


@pytest.mark.parametrize("bad", [3, "3", "3 s", "wide", ""])
def test_a_quantity_without_its_unit_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="mm"):
        Grid(edge_length=bad)


def test_parse_knows_compound_units() -> None:
    assert parse("5 L/min", "m^3/s") == pytest.approx(8.3333e-5, rel=1e-4)


def test_every_error_is_told_with_its_line_and_a_suggestion(tmp_path: Path) -> None:
    file = tmp_path / "case.yaml"
    file.write_text("pressure: 120\nmesh:\n  wall_layers: many\n  edge_lenght: 1 mm\n")
    with pytest.raises(BadSettings) as refused:
        settings.load(file, Whole())
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert any(f"{file}:1: pressure: a bare number" in line for line in lines)
    assert any(f"{file}:4: mesh.edge_lenght: unknown setting; did you mean edge_length?" in line for line in lines)
    assert any(f"{file}:3: mesh.wall_layers" in line for line in lines)


def test_settings_lie_on_top_of_the_base(tmp_path: Path) -> None:
    file = tmp_path / "case.yaml"
    file.write_text("mesh:\n  wall_layers: 5\n")
    loaded = settings.load(file, Whole(mesh=Grid(edge_length="2 mm")))
    assert loaded.mesh.wall_layers == 5
    assert loaded.mesh.edge_length == pytest.approx(0.002)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "just text"])
def test_what_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "case.yaml"
    file.write_text(text)
    with pytest.raises(BadSettings, match="case.yaml:"):
        settings.load(file, Whole())


def test_one_setting_by_its_dotted_name() -> None:
    changed = settings.merge(settings.assignment("mesh.edge_length=0.8 mm"), Whole(), "--set")
    assert changed.mesh.edge_length == pytest.approx(0.0008)
    with pytest.raises(BadSettings, match="no value"):
        settings.assignment("mesh.edge_length")


def test_but_is_checked_again() -> None:
    with pytest.raises(ValueError, match="unit"):
        Grid().but(edge_length=1.0)
    assert Grid().but(wall_layers=1).edge_length == Grid().edge_length
