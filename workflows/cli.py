"""The command `anatwin`: code raises, this prints and exits.

Exit codes: 0 all done, 1 none done, 2 wrong usage or settings, 3 some cases failed.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from solvers.errors import AnatwinError, BadInput
from workflows import cleaning, cohort, intake
from workflows.case import Case
from workflows.settings import BadSettings

app = App(name="anatwin", help="From a folder of medical scans to an anatomical twin. Research use only, "
                               "not a medical device.", version_flags=["--version"])

Labels = Annotated[list[str] | None, Parameter(consume_multiple=True)]
Repeated = Annotated[list[str] | None, Parameter(negative=())]


@app.command
def run(scans: Path, out: Path, /, *, recipe: str = "aorta", participant_label: Labels = None, use: Repeated = None,
        set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None, labels: Path | None = None,
        until: str = "", jobs: int = 2, accept: Repeated = None,
        dry_run: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Every case in SCANS, from the scan to the report in OUT.

    Parameters
    ----------
    scans
        A file or a folder in any shape: DICOM (several patients mixed), NIfTI, NRRD, MHA, a zip.
    out
        Where results go; made when absent. Run again to continue: only what changed is redone.
    recipe
        A recipe's name (see `anatwin recipes`) or a YAML file of settings.
    participant_label
        Only these participants.
    use
        Your own file in place of a stage's, as segment.labels=mask.nii.gz.
    set_
        One setting, as "mesh.max_tets=20000".
    labels
        A table (TSV: patient_id, participant_id) that names the participants.
    until
        The last stage to run.
    jobs
        Threads at most.
    accept
        A refusal of the scan that you overrule, by its code (see `anatwin ingest --help`).
    dry_run
        Only say what would be done.
    """
    from workflows.recipe import STAGES, named

    settings = named(recipe, set_ or [])
    stages = STAGES[settings.line]
    if until and until not in stages:
        raise BadSettings("unknown_stage", f"--until {until}: no such stage", f"one of {', '.join(stages)}")
    if accept:
        settings = settings.but(ingest=settings.ingest.but(accept=intake.checked(accept)))
    files = dict(_pair(text) for text in use or [])
    _writable(out)
    with intake.people(scans, labels, participant_label or []) as people:
        todo = [Case(home=str((out / f"sub-{p.label}").absolute()), subject=p.label, session="", scan=str(p.scan),
                     recipe=settings.model_dump(mode="json"), use=files, until=until, dry=dry_run)
                for p in people]
        return cohort.perform(todo, out, jobs)


@app.command
def ingest(scans: Path, out: Path, /, *, accept: Repeated = None) -> int:
    """Only read: every series as a checked volume with its sidecar, or a refusal that says why.

    Parameters
    ----------
    scans
        A file or a folder in any shape, as for `run`.
    out
        Where volumes go; ingest.json there says what became of every series and file.
    accept
        A refusal that you overrule, by its code: missing_slice and uneven_slices (interpolated from the slices
        around), conflicting_geometry (the sform of a NIfTI is believed). Again for another one.
    """
    accepted = intake.checked(accept or [])
    _writable(out)
    return intake.ingest_all(scans, out, accepted)


@app.command
def deidentify(scans: Path, out: Path, /, *, accept: Repeated = None) -> int:
    """Only clean: DICOM in, DICOM out without what names the patient (NIfTI the same). Pixels stay as they are.

    Parameters
    ----------
    scans
        A file or a folder in any shape, as for `run`.
    out
        A new folder: images, and deidentify.json, which says what became of every series and file.
    accept
        A refusal that you overrule, by its code: shows_head (a head leaves as it is), burned_in_text (images leave
        with what is written in them). Again for another one.
    """
    accepted = cleaning.checked(accept or [])
    _writable(out)
    return cleaning.deidentify(scans, out, accepted)


@app.command
def compare(case: Path, variants: Path, /, *, jobs: int = 2,
            dry_run: Annotated[bool, Parameter(negative=())] = False) -> int:
    """A case beside its variants (stents, drugs): one table, one report.

    Parameters
    ----------
    case
        The folder of one case that `anatwin run` made, as OUT/sub-01.
    variants
        A YAML file: `variants:`, and by name what differs from the baseline.
    jobs
        Threads at most.
    dry_run
        Only say what would be done.
    """
    from workflows import variants as files
    from workflows.case import again

    todo, recipe = again(case)
    todo = replace(todo, variants=files.read(variants, recipe), dry=dry_run)
    return cohort.perform([todo], cohort.cohort_of(Path(todo.home)), jobs)


@app.command
def export(case: Path, /) -> int:
    """A case for other programs: DICOM segmentation, DICOM measurement report (TID 1500), 3D Slicer's .seg.nrrd.

    Parameters
    ----------
    case
        The folder of one case that `anatwin run` made, as OUT/sub-01; the files go to its folder export.
    """
    from workflows import exchange

    print("\n".join(str(path) for path in exchange.export_case(case).paths().values()))
    return 0


@app.command
def push(what: Path, archive: str, /, *, restore: Path | None = None) -> int:
    """Store a case's segmentation and report, or any DICOM files, in an archive (PACS).

    Parameters
    ----------
    what
        The folder of a case that `anatwin run` made, or a DICOM file, or a folder of such.
    archive
        https://HOST/dicom-web, or dicom://TITLE@HOST:PORT. USER:PASSWORD, if needed, in ANATWIN_PACS_AUTH.
    restore
        The case's scan. Its own UIDs and its patient take the place of the hashed ones, so that the archive files the
        results beside the images. Without it nothing that identifies is sent.
    """
    from workflows import exchange

    print(f"{exchange.push(what, archive, restore)} stored")
    return 0


@app.command
def pull(archive: str, out: Path, /, *, patient_id: str = "", study: str = "", series: str = "", modality: str = "",
         move_port: int = 0) -> int:
    """Fetch series from an archive (PACS) into OUT, as it holds them: with names. `anatwin run` takes those out.

    Parameters
    ----------
    archive
        https://HOST/dicom-web, or dicom://TITLE@HOST:PORT. USER:PASSWORD, if needed, in ANATWIN_PACS_AUTH.
    out
        Where the DICOM files go, a folder for each series.
    patient_id
        Whose; this or a study must be named.
    study
        StudyInstanceUID.
    series
        SeriesInstanceUID.
    modality
        As CT.
    move_port
        Ask by C-MOVE, and take the images on this port (the archive must know the title ANATWIN); else by C-GET.
    """
    from workflows import archive as archives

    _writable(out)
    asked = archives.Query(patient_id, study, series, modality)
    for one, n in archives.pull(asked, archives.connect(archive, move_port), out):
        print(f"{one.modality or 'series'}: {n} files")
    return 0


@app.command
def status(out: Path, /) -> int:
    """Who is done, who failed, where and why."""
    print(cohort.show_status(out))
    return 0


@app.command
def recipes(name: str = "", /, *, schema: Annotated[bool, Parameter(negative=())] = False) -> int:
    """The recipes, and the settings of each with units and defaults."""
    from workflows import recipe

    if schema:
        print(json.dumps(recipe.Recipe.model_json_schema(), indent=1))
    elif name:
        print(recipe.as_text(recipe.named(name, [])), end="")
    else:
        print("\n".join(f"{n}: {recipe.summary(n)}" for n in recipe.names()))
    return 0


@app.command
def fetch(name: str = "", /, *, source: str = "") -> int:
    """Get the weights of a network onto this machine, checked by their SHA-256; without NAME, list them.

    Parameters
    ----------
    name
        Which weights.
    source
        Another address of the same files, as of a mirror; their checksums stay the same.
    """
    from workflows import weights

    if name:
        print(weights.fetch(name, source))
    else:
        print("\n".join(f"{n}: {w.summary}; {w.licence}" for n, w in weights.known().items()))
    return 0


@app.command
def doctor() -> int:
    """What is installed, what is missing, how to get it."""
    from workflows.doctor import findings

    missing = 0
    for finding in findings():
        print(finding.text)
        missing += finding.required and not finding.found
    return 1 if missing else 0


def _pair(text: str) -> tuple[str, str]:
    name, mark, path = text.partition("=")
    if not mark or "." not in name:
        raise BadSettings("bad_use", f"--use {text}: not understood", "stage.output=file")
    if not Path(path).is_file():
        raise BadInput("no_such_file", f"--use {name}: {path} is not a file", "a file of your own")
    return name, str(Path(path).absolute())


def _writable(out: Path) -> None:
    """OUT is a folder that can be written, before any work is done."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".anatwin-probe"
        probe.touch()
        probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise BadInput("out_is_a_file", f"{out} cannot be a folder: a file stands there", "a folder, or a free name",
                       "Choose another output path.") from error
    except OSError as error:
        raise BadInput("cannot_write", f"{out} cannot be written ({error.strerror})", "a folder with write permission",
                       "Choose another output path.") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; never returns."""
    try:
        code: Any = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _complain("usage", str(error))
        code = 2
    except BadSettings as error:
        _complain(error.code, str(error))
        code = 2
    except AnatwinError as error:
        _complain(error.code, str(error))
        code = 1
    except KeyboardInterrupt:
        _complain("interrupted", "stopped by you; finished stages are kept, run the same command again to continue")
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _complain(code: str, text: str) -> None:
    print(f"anatwin: [{code}] {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
