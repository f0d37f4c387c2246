"""The report in a real browser: it runs without a network, and the surface has the legend's colours."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from pipeline.report import ReportConfig, inputs_of, report
from pipeline.report.scene import colours
from pipeline.stage import run
from tests.example_case import write_case

WIDTH, HEIGHT = 1000, 2600
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader",
         "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=8000",
         "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND"]


@pytest.fixture(scope="module")
def browser():
    found = next((path for n in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(n))), None)
    if found is None:
        pytest.skip("THE REPORT WAS NOT OPENED IN A BROWSER: chromium is absent (apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    home = write_case(tmp_path_factory.mktemp("out") / "sub-07")
    stent = write_case(home / "variants/stent", narrowing=0.0, drop=1.0)
    return run(report, inputs_of(home, {"stent": stent}), ReportConfig(subject="07"), home / "report").page


def opened(browser, page, folder, *flags):
    profile = folder / "profile"
    done = subprocess.run([browser, *FLAGS, f"--user-data-dir={profile}", *flags, f"file://{page}"],
                          capture_output=True, text=True, timeout=120)
    shutil.rmtree(profile, ignore_errors=True)
    return done


def test_the_page_runs_clean_and_the_viewer_starts(browser, page, tmp_path):
    done = opened(browser, page, tmp_path, "--dump-dom")
    figure = re.search(r'<figure id="viewer"[^>]*>', done.stdout)
    assert figure and 'data-ready="true"' in figure[0]
    assert re.search(r'<button[^>]*aria-pressed="true"[^>]*>Time-averaged pressure<', done.stdout)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not [line for line in console if re.search("Refused|violates|Uncaught|rror", line)]


def test_surface_and_legend_share_their_colours(browser, page, tmp_path):
    """Baseline: the highest pressure above the lesion, the lowest below it. Stent: the highest everywhere."""
    shot = tmp_path / "page.png"
    opened(browser, page, tmp_path, f"--screenshot={shot}", f"--window-size={WIDTH},{HEIGHT}")
    picture = np.asarray(Image.open(shot).convert("RGB"), int)
    table = colours("viridis").astype(int)
    low, high = (np.abs(picture - table[end]).max(axis=2) <= 2 for end in (0, 255))
    left, right = slice(0, WIDTH // 2), slice(WIDTH // 2, WIDTH)
    view = np.flatnonzero(high[:, left].sum(axis=1) > 5)
    body = slice(view.min(), view.max() + 1)
    assert high[body, left].sum() > 2000 and high[body, right].sum() > 2000
    below = slice(view.max() - 10, HEIGHT)
    assert low[:, left].sum() > 1000 and low[below, right].sum() < 100
    painted = _saturated(picture[body, left])
    distance = np.abs(painted[:, None, :] - table[None]).max(axis=2).min(axis=1)
    assert (distance <= 3).mean() > 0.9


def _saturated(part):
    """Pixels that are neither grey nor of the page's text and edges."""
    pixels = part.reshape(-1, 3)
    return pixels[np.ptp(pixels, axis=1) > 60]
