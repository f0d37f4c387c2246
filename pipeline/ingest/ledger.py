"""What became of every file of a scan: used, a duplicate, refused, or passed over, and why. Counts only, no names."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.ingest.series import Series
from pipeline.ingest.subjects import Index


@dataclass(frozen=True)
class Ledger:
    """Files by fate; `total` is what was found, and the sum of the others.

    `refused`: by the code of the refusal. `ignored`: by reason.
    """

    total: int
    used: int
    duplicate: int
    refused: Mapping[str, int]
    ignored: Mapping[str, int]

    @property
    def explained(self) -> int:
        """Files whose fate is told."""
        return self.used + self.duplicate + sum(self.refused.values()) + sum(self.ignored.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        said = [f"{self.used} used", f"{self.duplicate} duplicate" if self.duplicate else "",
                *(f"{n} refused [{code}]" for code, n in sorted(self.refused.items())),
                *(f"{n} passed over ({why})" for why, n in sorted(self.ignored.items()))]
        return f"{self.total} files: " + ", ".join(s for s in said if s)


def of(found: Index, fates: Sequence[tuple[Series, str, str]]) -> Ledger:
    """The fate of every file from those of the series: (series, `used`, `refused` or `ignored`, code or reason).

    A file of several series is used when one of them is.
    """
    ranks = {"used": 0, "refused": 1, "ignored": 2}
    told: dict[int, tuple[str, str]] = {}
    for one, fate, why in sorted(fates, key=lambda f: ranks[f[1]]):
        for n in one.files:
            told.setdefault(n, (fate, why))
        for n in one.copies:
            told.setdefault(n, ("duplicate", ""))
    for n, head in enumerate(found.heads):
        told.setdefault(n, ("refused", head["problem"][0]) if head["problem"] else ("ignored", "no image"))
    refused = Counter(why for fate, why in told.values() if fate == "refused")
    refused.update(problem.code for problem in found.refused)
    ignored = Counter(found.ignored)
    ignored.update(why for fate, why in told.values() if fate == "ignored")
    counts = Counter(fate for fate, _ in told.values())
    return Ledger(found.n_files, counts["used"], counts["duplicate"], dict(refused), dict(ignored))
