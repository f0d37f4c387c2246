"""From a diffusion series to maps of anisotropy, diffusivity and main direction, and their means by region.

b-values and b-vectors are files in FSL's convention: the vectors lie along the
image's axes. The fit is done in the patient's frame, so that `v1` is a
direction of the patient however the slices were tilted. Motion and eddy
currents are not corrected here.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from skimage.filters import threshold_otsu

from pipeline import formats
from pipeline.stage import Config, Files, Report
from pipeline.table import Row, write_rows
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.imaging import diffusion

VERSION = 1
SOURCES = ["Basser, Mattiello & LeBihan 1994 (diffusion tensor), doi:10.1016/S0006-3495(94)80775-1",
           "Chung, Lu & Henry 2006 (weighted least squares), doi:10.1016/j.neuroimage.2006.07.001"]
TISSUE = "tissue"
ANISOTROPIC = "anisotropic_tissue"


class FitDiffusionConfig(Config):
    highest_b: float = 1500.0
    """Volumes with a higher b-value, in s/mm2, are left out: the tensor does not describe them."""
    anisotropic: float = 0.2
    """Fractional anisotropy from which tissue counts as anisotropic."""


class FitDiffusionInputs(Files):
    """A series (i, j, k, n) with its b-values and b-vectors (FSL); a label map with its table."""

    volume: Path
    b_values: Path | None = None
    b_vectors: Path | None = None
    labels: Path | None = None
    table: Path | None = None


class FitDiffusionOutputs(Files):
    fa: Path = Path("fa.nii.gz")
    md: Path = Path("md.nii.gz")
    """mm^2/s."""
    v1: Path = Path("v1.nii.gz")
    """The main direction in the file's world frame (RAS), (i, j, k, 3)."""
    measurements: Path = Path("measurements.csv")


class FitDiffusionReport(Report):
    n_volumes: int
    n_left_out: int
    n_directions: int
    tissue_ml: float
    residual_median: float
    """Spread about the fit over the signal without weighting."""


def fit_diffusion(inputs: FitDiffusionInputs, config: FitDiffusionConfig,
                  outputs: FitDiffusionOutputs) -> FitDiffusionReport:
    """Tensors in every voxel of tissue, and means by region as rows."""
    image, gradients = _given(inputs)
    kept = diffusion.select(gradients, config.highest_b)
    used = diffusion.Gradients(gradients.b_values[kept], gradients.directions[kept])
    signal = np.asarray(image.values, np.float32)[..., kept]
    diffusion.checked(used, signal.shape[-1])
    mask = _tissue(signal[..., used.b_values < diffusion.LEAST_WEIGHTED].mean(axis=-1))
    found = diffusion.solve(signal, mask, used)
    formats.write_volume(outputs.fa, image.but(found.fa), np.float32)
    formats.write_volume(outputs.md, image.but(found.md), np.float32)
    formats.write_vectors(outputs.v1, image.but(found.v1))
    write_rows(outputs.measurements, _rows(found, _regions(inputs, image, mask, found, config), image))
    weighted = used.b_values >= diffusion.LEAST_WEIGHTED
    return FitDiffusionReport(
        n_volumes=len(kept), n_left_out=int((~kept).sum()), n_directions=int(weighted.sum()),
        tissue_ml=round(float(mask.sum()) * image.voxel_volume / 1000, 2),
        residual_median=round(float(np.median(found.residual[mask])), 4))


def _given(inputs: FitDiffusionInputs) -> tuple[Volume, diffusion.Gradients]:
    """The series and its weightings in LPS."""
    image = formats.read_volume(inputs.volume)
    if image.values.ndim != 4:
        raise BadInput("not_a_series", f"the volume has {image.values.ndim} axes", "a diffusion series of four axes",
                       "Choose the series with --set ingest.series=NAME.")
    if inputs.b_values is None or inputs.b_vectors is None:
        raise BadInput("no_gradients", "the scan does not say its b-values and directions", "both for every volume",
                       "Give them: --use ingest.b_values=FILE.bval --use ingest.b_vectors=FILE.bvec.")
    b_values, b_vectors = _numbers(inputs.b_values).ravel(), _numbers(inputs.b_vectors)
    b_vectors = b_vectors.T if b_vectors.shape[0] != 3 and b_vectors.shape[-1] == 3 else b_vectors
    if b_vectors.shape != (3, image.values.shape[3]) or len(b_values) != image.values.shape[3]:
        raise BadInput("gradients_do_not_match", f"{len(b_values)} b-values and b-vectors of shape {b_vectors.shape} "
                       f"for {image.values.shape[3]} volumes", "one of each per volume",
                       "Give the .bval and .bvec of this series.")
    return image, diffusion.from_fsl(b_values, b_vectors, image.affine)


def _numbers(path: Path) -> np.ndarray:
    try:
        return np.atleast_2d(np.loadtxt(path))
    except ValueError as error:
        raise BadInput("bad_gradients", f"{path.name} is not a table of numbers", "numbers with spaces between",
                       "Give a .bval or .bvec in FSL's form.") from error


def _tissue(plain: np.ndarray) -> np.ndarray:
    """Voxels brighter than Otsu's threshold without weighting (boolean): head and brain are not told apart."""
    if not np.ptp(plain) > 0:
        raise BadInput("empty_series", "the image without weighting is the same everywhere", "an image with tissue",
                       "Choose another series.")
    return plain > threshold_otsu(plain)


def _regions(inputs: FitDiffusionInputs, image: Volume, mask: np.ndarray, found: diffusion.Tensors,
             config: FitDiffusionConfig) -> dict[str, tuple[np.ndarray, str]]:
    """Name to voxels and how they were chosen: tissue, its anisotropic part, and given labels."""
    regions = {TISSUE: (mask, "above Otsu's threshold at b = 0"),
               ANISOTROPIC: (mask & (found.fa > config.anisotropic), f"tissue of FA above {config.anisotropic:g}")}
    if inputs.labels is None:
        return regions
    given = formats.read_volume(inputs.labels)
    if given.values.shape != mask.shape or not np.allclose(given.affine, image.affine, atol=1e-2):
        raise BadInput("mask_of_another_grid", f"{inputs.labels.name} is not on the grid of the series",
                       "labels voxel by voxel of the diffusion image", "Resample the labels.")
    numbers = np.round(np.asarray(given.values, float)).astype(int)
    names = _names(inputs.table)
    return regions | {names.get(n, f"label_{n}"): (mask & (numbers == n), "given label")
                      for n in (int(v) for v in np.unique(numbers)) if n}


def _names(table: Path | None) -> dict[int, str]:
    if table is None:
        return {}
    with table.open(newline="", encoding="utf-8") as file:
        return {int(row["index"]): row["name"] for row in csv.DictReader(file, delimiter="\t")}


def _rows(found: diffusion.Tensors, regions: dict[str, tuple[np.ndarray, str]], image: Volume) -> Iterator[Row]:
    for name, (region, how) in regions.items():
        base = Row(stage="fit_diffusion", region=name, method=f"weighted least squares; {how}")
        yield base.but(measure="volume", statistic="value", value=float(region.sum()) * image.voxel_volume / 1000,
                       unit="mL", method=how)
        if region.any():
            yield from _means(base, found, region)


def _means(base: Row, found: diffusion.Tensors, region: np.ndarray) -> Iterator[Row]:
    measures: tuple[tuple[str, Any, str], ...] = (("fa", found.fa, "1"), ("md", found.md, "mm2/s"))
    for measure, values, unit in measures:
        yield base.but(measure=measure, statistic="mean", value=float(values[region].mean()), unit=unit)
        yield base.but(measure=measure, statistic="sd", value=float(values[region].std()), unit=unit)
