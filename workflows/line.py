"""Stages in order for one case: runs them, takes a person's own files, stops where asked."""

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.stage import Config, Files, Stage, hints, is_done, name_of, run, tell
from solvers.errors import AnatwinError, BadInput, DidNotConverge


class Stop(Exception):
    """The stage named by `until` is done, or a dry run met the first stage to do."""


class StageFailed(Exception):
    """An error with the stage where it happened."""

    def __init__(self, stage: str, error: AnatwinError) -> None:
        super().__init__(stage, error)
        self.stage, self.error = stage, error


@dataclass
class Line:
    """One case in `home`.

    use: a person's own files by "stage.output"; until: the last stage to run;
    dry: only say what would be done; base: the home of the case that this one is
    a variant of, whose stages are taken as they are where nothing differs.
    """

    home: Path
    use: dict[str, Path] = field(default_factory=dict)
    until: str = ""
    dry: bool = False
    base: Path | None = None
    done: list[str] = field(default_factory=list)
    lost: dict[str, StageFailed] = field(default_factory=dict)

    def run(self, stage: Stage, inputs: Files, config: Config, name: str = "") -> Any:
        """The outputs of `stage` in the folder `name`, with the person's files in their place."""
        name = name or name_of(stage)
        given = self._given(stage, name)
        outputs = self._bypass(stage, given) or self._do(stage, inputs, config, name)
        self.done.append(name)
        if name == self.until:
            raise Stop
        return outputs.model_copy(update=given)

    def attempt(self, stage: Stage, inputs: Files, config: Config) -> Any:
        """As `run`, for a stage that nothing but the results waits for: None, and told, when its numerics give up."""
        try:
            return self.run(stage, inputs, config)
        except StageFailed as failed:
            if not isinstance(failed.error, DidNotConverge):
                raise
            self.leave_out(failed, f"{failed.stage} gave up and is left out")
            return None

    def leave_out(self, failed: StageFailed, what: str) -> None:
        """Go on without a stage: told as `what`, kept among the lost; what an earlier run left of it is put aside."""
        self.lost[failed.stage] = failed
        tell(f"  {what}: {failed.error}")
        self._put_aside(failed.stage)

    def _put_aside(self, name: str) -> None:
        outdated = self.home / f"{name}.outdated"
        shutil.rmtree(outdated, ignore_errors=True)
        if (self.home / name).exists():
            (self.home / name).rename(outdated)

    def _given(self, stage: Stage, name: str) -> dict[str, Path]:
        """Files that replace outputs of this stage; an unknown output is refused."""
        found = {key.partition(".")[2]: path for key, path in self.use.items() if key.partition(".")[0] == name}
        known = hints(stage)["outputs"].model_fields  # type: ignore[attr-defined]
        for output, path in found.items():
            if output not in known:
                raise BadInput("unknown_output", f"--use {name}.{output}: {name} has no such output",
                               f"one of {', '.join(known)}")
            if not path.is_file():
                raise BadInput("no_such_file", f"--use {name}.{output}: {path.name} is not a file",
                               "a file of your own")
        return found

    @staticmethod
    def _bypass(stage: Stage, given: dict[str, Path]) -> Files | None:
        """The stage's outputs when the person gave all that it must write."""
        model: Any = hints(stage)["outputs"]
        needed = {n for n, f in model.model_fields.items() if f.annotation is Path}
        if not given or needed - set(given):
            return None
        return model(**{n: given.get(n) for n in model.model_fields})

    def _do(self, stage: Stage, inputs: Files, config: Config, name: str) -> Any:
        if self.base and is_done(stage, inputs, config, self.base / name):
            return self._as_in_base(stage, inputs, config, name)
        folder = self.home / name
        if self.dry:
            self._say_what_would_happen(stage, inputs, config, folder)
        started = time.monotonic()
        try:
            already = is_done(stage, inputs, config, folder)
            outputs = run(stage, inputs, config, folder)
        except AnatwinError as error:
            raise StageFailed(name, error) from error
        tell(f"  {name}: {'up to date' if already else f'{time.monotonic() - started:.0f} s'}")
        return outputs

    def _as_in_base(self, stage: Stage, inputs: Files, config: Config, name: str) -> Any:
        """The base's outputs; what this line once had of its own is of other settings and is put aside."""
        if not self.dry:
            self._put_aside(name)
        tell(f"  {name}: as the baseline's")
        return run(stage, inputs, config, self.base / name)  # type: ignore[operator]

    @staticmethod
    def _say_what_would_happen(stage: Stage, inputs: Files, config: Config, folder: Path) -> None:
        if not is_done(stage, inputs, config, folder):
            tell(f"  {folder.name}: would run, and all after it")
            raise Stop
        tell(f"  {folder.name}: up to date")
