"""Doses: what is given, when, and by which way it enters the body."""

from dataclasses import dataclass
from typing import Literal

from solvers.errors import BadInput

Route = Literal["oral", "iv_bolus", "iv_infusion"]


@dataclass(frozen=True)
class Regimen:
    """`n_doses` of `dose` kg of active drug every `interval` s, the first at time 0.

    oral: into the stomach.
    iv_bolus: into venous blood at once. iv_infusion: into it at a constant rate
    over `infusion_time` s.
    """

    dose: float
    route: Route = "oral"
    n_doses: int = 1
    interval: float = 43200.0
    infusion_time: float = 900.0

    def __post_init__(self) -> None:
        if not self.dose > 0:
            raise BadInput("dose_not_positive", f"a dose of {self.dose * 1e6:g} mg", "a dose above zero",
                           "Set dose, for example to 100 mg.")
        if self.n_doses < 1:
            raise BadInput("no_dose", f"{self.n_doses} doses", "one or more", "Set n_doses.")
        if self.n_doses > 1 and not self.interval > 0:
            raise BadInput("interval_not_positive", f"an interval of {self.interval:g} s", "a time above zero")
        if self.route == "iv_infusion" and not self.infusion_time > 0:
            raise BadInput("infusion_time_not_positive", f"an infusion over {self.infusion_time:g} s",
                           "a time above zero", "Use the route iv_bolus for a dose at once.")
        if self.route == "iv_infusion" and self.n_doses > 1 and self.infusion_time > self.interval:
            raise BadInput("infusions_overlap", "an infusion lasts longer than the interval between doses",
                           "infusion_time of at most interval")

    @property
    def starts(self) -> list[float]:
        """Times of the doses, s."""
        return [i * self.interval for i in range(self.n_doses)]

    def events(self) -> list[float]:
        """Times at which something is given or stops, s."""
        stops = [t + self.infusion_time for t in self.starts] if self.route == "iv_infusion" else []
        return sorted(self.starts + stops)

    def rate(self, time: float) -> float:
        """Rate of infusion just after `time`, kg/s."""
        if self.route != "iv_infusion":
            return 0.0
        running = any(t <= time + 1e-9 and time + 1e-9 < t + self.infusion_time for t in self.starts)
        return self.dose / self.infusion_time if running else 0.0

    def given(self, time: float) -> float:
        """All that was given up to `time`, kg, a dose at `time` itself included."""
        if self.route != "iv_infusion":
            return self.dose * sum(t <= time + 1e-9 for t in self.starts)
        return self.dose * sum(min(max(time - t, 0.0) / self.infusion_time, 1.0) for t in self.starts)
