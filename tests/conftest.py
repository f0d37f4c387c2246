"""Where the shared scans and references are; said clearly when they are absent."""

import os
from pathlib import Path

import pytest

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):  # before numpy and numba are imported
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).parents[1]


def shared_folder() -> Path | None:
    """`ANATWIN_TEST_DATA`, else ../shared beside the checkout; None when absent."""
    folder = Path(os.environ.get("ANATWIN_TEST_DATA", ROOT.parent / "shared"))
    return folder if (folder / "scans").is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real scans (`scans/`) and published problems (`references/`)."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("real scans and references are absent: set ANATWIN_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """The scans that travel with the project."""
    return ROOT / "sample_scans"


def pytest_configure(config: pytest.Config) -> None:
    if "verify" in (config.option.markexpr or "") and "not verify" not in config.option.markexpr \
            and shared_folder() is None:
        pytest.exit("make verify needs the real scans: set ANATWIN_TEST_DATA to their folder", returncode=4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long tests run only when asked for with -m verify."""
    if config.option.markexpr:
        return
    left_out = [i for i in items if i.get_closest_marker("verify")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [i for i in items if i not in left_out]
