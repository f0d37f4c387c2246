"""OUT/report.html: every case with its state, and a link to its page."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pipeline.report import web
from pipeline.report.tables import table

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class CohortCase:
    """One line: label, status (ok, failed, skipped), the stage, code and reason of a failure, and its page."""

    label: str
    status: str
    stage: str = ""
    code: str = ""
    reason: str = ""
    hint: str = ""
    page: str = ""  # relative to the cohort's page


def cohort_report(path: Path, cases: Sequence[CohortCase], title: str = "Cohort") -> None:
    """Write the index of a cohort; the same cases give the same bytes."""
    counts = Counter(c.status for c in cases)
    summary = ", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "no cases"
    lines = [_line(case) for case in sorted(cases, key=lambda c: c.label)]
    body = f"<p>{len(cases)} cases: {escape(summary)}.</p>" + table(["Case", "State", "Stage", "Reason"], lines)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(document(title, body, f"<h1>{escape(title)}</h1>"), encoding="utf-8")
    draft.replace(path)


def _line(case: CohortCase) -> list[str]:
    name = f'<a href="{escape(case.page)}">{escape(case.label)}</a>' if case.page else escape(case.label)
    code = f" <code>{escape(case.code)}</code>" if case.code else ""
    reason = escape(" ".join(t for t in (case.reason, case.hint) if t))
    return [name, f'<span class="state-{escape(case.status)}">{escape(case.status)}</span>', escape(case.stage),
            reason + code]


def document(title: str, body: str, heading: str, end: str = "") -> str:
    """A whole page around `body`; the policy forbids every request to anywhere."""
    return ("<!doctype html>\n"
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><link rel="icon" href="data:,">'
            f"<style>{web.text('page.css')}</style></head>\n<body>"
            f'<header><div>{heading}</div><div class="use">Research use only. Not a medical device.</div></header>\n'
            f"<main>{body}</main>\n{end}</body></html>\n")
