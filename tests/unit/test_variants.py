"""Files of variants: what they may change, and what is said when they are wrong."""

import json

import pytest

from workflows import cohort, variants
from workflows.case import Case, again, start
from workflows.recipe import named
from workflows.settings import BadSettings


def read(tmp_path, text):
    path = tmp_path / "variants.yaml"
    path.write_text(text)
    return variants.read(path, named("aorta", []))


def test_names_and_settings_come_back_plain(tmp_path):
    found = read(tmp_path, "variants:\n  short:\n    intervene: {length: 12 mm}\n  iv:\n    dose: {route: iv_bolus}\n")
    assert found == {"short": {"intervene": {"length": "12 mm"}}, "iv": {"dose": {"route": "iv_bolus"}}}
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("text", "said"), [
    ("stents:\n  a: {}\n", "no variants"),
    ("variants: []\n", "no variants"),
    ("variants:\n  baseline:\n    dose: {n_doses: 2}\n", "not baseline"),
    ("variants:\n  ../up:\n    dose: {n_doses: 2}\n", "letters, digits"),
    ("variants:\n  a:\n    simulate_flow: {systolic: 150 mmHg}\n", "cannot be set in a variant"),
    ("variants:\n  a: {}\n", "changes nothing"),
    ("variants:\n  a:\n    intervene: {lenght: 12 mm}\n", "did you mean length"),
    ("variants:\n  a:\n    intervene: {length: 12}\n", "with its unit")])
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path, text, said):
    with pytest.raises(BadSettings) as caught:
        read(tmp_path, text)
    assert said in str(caught.value) and "variants.yaml" in str(caught.value)


def test_a_case_is_taken_up_as_it_was_run(tmp_path):
    home = tmp_path / "sub-x" / "ses-1"
    home.mkdir(parents=True)
    (home / "case.json").write_text(json.dumps({"subject": "x", "session": "1", "recipe": {"summary": "s"}}))
    case, recipe = again(home)
    assert (case.subject, case.session, recipe.summary, case.scan) == ("x", "1", "s", "")
    assert cohort.cohort_of(home) == tmp_path


def test_variants_that_failed_show_in_exit_code_and_sentence(tmp_path):
    lost = {"status": "failed", "code": "x", "stage": "y"}
    outcome = {"status": "ok", "variants": {"a": {"status": "ok"}, "b": lost}}
    assert cohort.exit_code([outcome]) == 3
    assert cohort.exit_code([{"status": "ok"}]) == 0
    assert "but not b" in cohort.sentence(outcome, tmp_path)


def test_a_case_that_fails_shows_no_earlier_result_as_its_own(tmp_path):
    home = tmp_path / "sub-x"
    home.mkdir()
    for name in ("report.html", "measurements.csv"):
        (home / name).write_text("of another day")
    outcome = start(Case(home=str(home), subject="x", session="", recipe=named("aorta", []).model_dump(mode="json")), 1)
    assert (outcome["status"], outcome["code"]) == ("failed", "no_image")
    assert sorted(p.name for p in home.iterdir() if p.is_file()) == ["case.json", "outdated.measurements.csv",
                                                                    "outdated.report.html"]
