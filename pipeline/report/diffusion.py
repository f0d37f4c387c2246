"""Diffusion on the page: anisotropy and the colours of the main direction, and the means by region."""

from collections.abc import Sequence

import numpy as np

from pipeline.formats import read_vectors, read_volume
from pipeline.report.files import CaseFiles
from pipeline.report.slices import figures, planes
from pipeline.report.tables import results_table
from pipeline.table import Row

STAGE = "fit_diffusion"
COLOURS = "red left to right, green front to back, blue head to foot, as bright as the anisotropy"


def diffusion_html(files: CaseFiles, rows: Sequence[Row], anatomical: bool) -> str:
    """Three planes of each map through its middle, and the table."""
    if files.fa is None or files.v1 is None:
        return ""
    fa, v1 = read_volume(files.fa), read_vectors(files.v1)
    middle = fa.position(((np.array(fa.values.shape) - 1) / 2)[None])[0]
    colours = np.abs(v1.values) * np.clip(np.asarray(fa.values), 0, 1)[..., None]
    grey = figures(planes(fa, None, middle, (0.0, 1.0), anatomical), "fractional anisotropy")
    bright = figures(planes(v1.but(colours), None, middle, (0.0, 1.0), anatomical), "main direction in colours")
    return '<p class="note">Three planes through the middle. Fractional anisotropy from 0 (black) to 1 (white):</p>' \
           f'{grey}<p class="note">The main direction: {COLOURS}:</p>{bright}' + \
        results_table([r for r in rows if r.stage == STAGE], "Means by region")
