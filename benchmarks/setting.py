"""How our own solver is used in a run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """core, rim, share, growth: of the section, as tests/axisymmetric.py has it; h: between stations in the throat, m;
    steps in all, a multiple of five; tolerance: of the linear solve; threads."""

    core: int
    rim: int
    h: float
    steps: int
    share: float = 0.45
    growth: float = 2.0
    tolerance: float = 1e-3
    threads: int = 1
