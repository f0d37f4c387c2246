"""The limited child of ingest with one task more: files made anew. Each file is answered by one line."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.deidentify.clean import Person
from pipeline.ingest import child
from pipeline.ingest.problems import Problem


def _clean(request: dict[str, Any], say: child.Say) -> None:
    person = Person(request["label"], bytes.fromhex(request["key"]), request["shift_days"])
    for path, out in request["files"]:
        try:
            say(_cleaned(Path(path), Path(out), person, request))
        except Problem as problem:
            say({"problem": [problem.code, problem.happened]})
        except OSError:
            raise
        except Exception as error:
            say({"problem": ["corrupt", f"the file could not be made anew ({type(error).__name__})"]})


def _cleaned(path: Path, out: Path, person: Person, request: dict[str, Any]) -> dict[str, Any]:
    if request["kind"] == "nifti":
        from pipeline.deidentify import nifti_file

        return {"head": False, "lettered": nifti_file.cleanse(path, out)}
    from pipeline.deidentify import dicom_file

    return asdict(dicom_file.cleanse(path, out, person, accept=tuple(request["accept"])))


if __name__ == "__main__":
    child.main({"clean": _clean})
