"""A stage that only the results wait for may give up; everything else goes on."""

from pathlib import Path

import pytest

from pipeline.stage import Config, Files, Report
from solvers.errors import BadInput, DidNotConverge
from workflows import cohort
from workflows.line import Line, StageFailed


class Nothing(Files):
    pass


class Wanted(Files):
    page: Path = Path("page.txt")


class Mood(Config):
    mood: str = "good"


def moody(inputs: Nothing, config: Mood, outputs: Wanted) -> Report:
    if config.mood == "bad":
        raise DidNotConverge("gave_up", "it gave up", "a better mood")
    if config.mood == "wrong":
        raise BadInput("wrong", "it was asked wrongly")
    outputs.page.write_text(config.mood)
    return Report()


def test_a_stage_that_gives_up_is_left_out_and_its_old_result_put_aside(tmp_path):
    line = Line(tmp_path)
    assert line.attempt(moody, Nothing(), Mood()).page.read_text() == "good"
    assert line.attempt(moody, Nothing(), Mood(mood="bad")) is None
    assert list(line.lost) == ["moody"] and not (tmp_path / "moody").exists()
    assert (tmp_path / "moody.outdated" / "page.txt").exists()


def test_wrong_input_still_stops_the_case(tmp_path):
    with pytest.raises(StageFailed):
        Line(tmp_path).attempt(moody, Nothing(), Mood(mood="wrong"))


def test_what_is_left_out_shows(tmp_path):
    outcome = {"status": "ok", "left_out": {"simulate_tissue": {"status": "failed", "stage": "simulate_tissue"}}}
    assert cohort.exit_code([outcome]) == 3
    assert "but not simulate_tissue" in cohort.sentence(outcome, tmp_path)
