"""report: everything about one case on one page, a single HTML file that calls nobody.

`CaseFiles` are the files that a page shows of a baseline or a variant; each is
optional, and what is not there is not mentioned. `report` is the stage;
`inputs_of` finds the files of a case by the stages' folders, and also gathers
the records. Numbers in text and tables come from rows of measurements only;
pictures and curves come from the stages' files. slices, scene, pullback and
charts make the pictures; tables makes rows readable; models lays 3D, 1D and 0D
side by side; page puts all together; cohort lists many cases; web/ holds style
and viewer.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.report import page
from pipeline.report.cohort import CohortCase, cohort_report
from pipeline.report.files import CaseFiles, case_files, gather_records
from pipeline.stage import Config, Files, Report

__all__ = ["CaseFiles", "CohortCase", "ReportConfig", "ReportInputs", "ReportOutputs", "ReportReport",
           "cohort_report", "inputs_of", "report"]

VERSION = 1
SOURCES = ["Smith & van der Walt 2015 (viridis and its family), doi:10.25080/Majora-7b98e3ed-00a"]


class ReportConfig(Config):
    subject: str = ""
    session: str = ""
    recipe: str = ""


class ReportInputs(CaseFiles):
    """The baseline's files, and those of variants by name, shown in this order."""

    variants: dict[str, CaseFiles] = {}
    records: Path | None = None

    def paths(self) -> dict[str, Path]:
        """All files, a variant's by its place and name, so that each counts in the key."""
        own = {name: Path(path) for name in type(self).model_fields
               if name != "variants" and (path := getattr(self, name)) is not None}
        for n, (variant, files) in enumerate(self.variants.items()):
            own |= {f"variant {n} {variant}: {role}": path for role, path in files.paths().items()}
        return own


class ReportOutputs(Files):
    page: Path = Path("report.html")


class ReportReport(Report):
    n_numbers: int
    n_variants: int
    n_warnings: int
    sections: list[str]
    megabytes: float


def report(inputs: ReportInputs, config: ReportConfig, outputs: ReportOutputs) -> ReportReport:
    """One page for one case, with its variants beside the baseline."""
    label = page.Label(config.subject, config.session, config.recipe)
    made = page.case_page(inputs, inputs.variants, inputs.records, label)
    outputs.page.write_text(made.html, encoding="utf-8")
    return ReportReport(n_numbers=made.n_rows, n_variants=len(inputs.variants), n_warnings=made.n_warnings,
                        sections=list(made.sections), megabytes=round(len(made.html.encode()) / 1e6, 1))


def inputs_of(home: Path, variants: Mapping[str, Path] | None = None,
              given: Mapping[str, Path] | None = None) -> ReportInputs:
    """What there is to show of the case in `home` and of its variants' folders.

    given: a person's own files by role (`labels`, `surface`), which stand before
    the stages'. The stages' records are gathered into `home/.work/records.json`,
    without times, so that the same results give the same page.
    """
    folders = dict(variants or {})
    records = gather_records(home, folders)
    found: dict[str, Any] = {n: getattr(case_files(home), n) for n in CaseFiles.model_fields} | dict(given or {})
    return ReportInputs(**found, records=records, variants={n: case_files(f) for n, f in folders.items()})
