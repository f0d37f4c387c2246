"""What this machine has of what anatwin needs."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    name: str
    found: bool
    use: str
    get: str
    required: bool = True

    @property
    def text(self) -> str:
        state = "ok     " if self.found else "MISSING" if self.required else "absent "
        return f"{state} {self.name}: {self.use}" + ("" if self.found else f". Get it with: {self.get}")


_MODULES = [
    ("dolfinx", "flow and tissue solvers", "pip install dolfinx-solver-real, or conda's fenics-dolfinx", True),
    ("vmtk", "centrelines", "pip install vmtk", False),
    ("netgen", "tetrahedra", "pip install netgen-mesher", True),
    ("mmgpy", "mesh optimisation", "pip install mmgpy", True),
    ("imagecodecs", "compressed DICOM", "pip install imagecodecs", True),
    ("SimpleITK", "images", "pip install SimpleITK", True),
    ("highdicom", "export: DICOM segmentation and report", "pip install highdicom", True),
    ("pynetdicom", "push and pull by C-STORE, C-FIND, C-GET, C-MOVE", "pip install pynetdicom", True),
    ("dicomweb_client", "push and pull by DICOMweb", "pip install dicomweb-client", True),
    ("svzerod", "the 0D peer that tests compare with", "pip install svzerod", False),
]


def findings() -> Iterator[Finding]:
    yield Finding("Python", sys.version_info >= (3, 12), f"{sys.version.split()[0]}", "pyenv install 3.12")
    compiler = shutil.which("cc") or shutil.which("gcc")
    yield Finding("C compiler", bool(compiler), "compiles finite-element forms on first use", "apt-get install gcc")
    for module, use, get, required in _MODULES:
        yield Finding(module, importlib.util.find_spec(module) is not None, use, get, required)
