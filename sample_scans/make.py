"""Makes the scans that travel with the project: a synthetic patient, the same from the same seed.

    python -m sample_scans.make --seed 1 --out FOLDER [--modality CT|MR] [--no-lesion] [--size small]

writes FOLDER/scan (DICOM series or NIfTI) and FOLDER/truth. The anatomy is
analytic: tubes swept along smooth lines, blended where they meet, so that
lumen, centreline, areas and the lesion are known without an image. Frame: LPS mm.
`pet_ct` and `diffusion` hold the other samples, `scene` what all share.
"""

import argparse
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np
import pyvista
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, JPEGLSLossless
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from pipeline import formats
from sample_scans import diffusion, pet_ct
from sample_scans.scene import TISSUE, Grid, painter, softly, surroundings, uid, write_nifti
from solvers.geometry import isosurface
from solvers.geometry.centrelines import Branch, Tree
from solvers.geometry.volume import Volume
from solvers.randomness import rng

SAMPLE_SEEDS = {"aorta_ct": 1, "aorta_mra": 2}
PET_SEED, DIFFUSION_SEED = 3, 4
VERIFY_SEEDS = {101: True, 102: True, 103: True, 104: True, 105: False}
"""Seeds that nobody tunes on, and whether each has a lesion."""

POINT_SPREAD = 1.2 / 2.3548  # mm, standard deviation for 1.2 mm full width at half maximum
BLEND = 1.0  # mm, smooth union of tubes
WALL = 1.1  # mm


GRIDS = {("CT", "full"): Grid((256, 256, 120), (0.9, 0.9, 1.5)),
         ("CT", "small"): Grid((112, 96, 72), (0.9, 0.9, 1.5), (4.0, 12.0, -36.0)),
         ("MR", "full"): Grid((160, 120, 136), (1.0, 1.0, 1.3), (2.0, 16.0, 0.0)),
         ("MR", "small"): Grid((100, 84, 80), (1.0, 1.0, 1.3), (4.0, 12.0, -36.0))}


@dataclass(frozen=True)
class Tube:
    """A vessel: dense centres (n, 3) and radii (n,) every 0.2 mm in the direction of flow."""

    name: str
    centres: np.ndarray
    radii: np.ndarray
    parent: int = -1

    @property
    def abscissa(self) -> np.ndarray:
        return np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(self.centres, axis=0), axis=1))]


@dataclass(frozen=True)
class Plaque:
    """A narrowing: where, how severe, and on which side the plaque lies."""

    tube: int
    abscissa: float
    half_length: float
    severity: float
    side: np.ndarray
    healthy: Tube = field(repr=False)


@dataclass(frozen=True)
class Patient:
    tubes: tuple[Tube, ...]
    vein: Tube
    plaque: Plaque | None


def swept(name: str, knots: list[tuple[float, ...]], radii: list[float], parent: int = -1) -> Tube:
    """A tube through knots (x, y, z) with radii at the knots, sampled every 0.2 mm."""
    points = np.array(knots)
    chord = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    t = np.linspace(0, chord[-1], int(chord[-1] / 0.2) + 2)
    return Tube(name, CubicSpline(chord, points)(t), np.interp(t, chord, radii), parent)


def patient(seed: int, with_lesion: bool) -> Patient:
    """The anatomy of one seed: sizes, bends, levels, side and severity of the lesion."""
    draw = rng(seed, "anatomy")
    scale = draw.uniform(0.93, 1.08)
    bend = draw.uniform(-4, 4, size=12)
    level = draw.uniform(-6, 6)
    tubes = _arteries(scale, bend, level)
    plaque = None
    if with_lesion:
        tubes, plaque = _narrowed(tubes, seed)
    return Patient(tuple(tubes), _vein(tubes[0]), plaque)


def _arteries(scale: float, bend: np.ndarray, level: float) -> list[Tube]:
    """Aorta, renals, common, external and internal iliacs; x to the left, y to the back, z to the head."""
    fork = (6 + bend[0] / 2, 9 + bend[1] / 2, -22 + level)
    top, renal = (8.0, 12.0, 110.0), 60 + level / 2
    middle = (8 + bend[2], 10 + bend[3] / 2, 30.0)
    aorta = swept("abdominal_aorta", [top, (8 + bend[4] / 3, 12, 75), middle, (7 + bend[5] / 2, 9, 0), fork],
                  [9.6 * scale, 9.3 * scale, 8.6 * scale, 8.5 * scale, 8.2 * scale])
    tubes = [aorta]
    for side, sign in (("left", 1), ("right", -1)):
        z = renal + (2 if side == "left" else -3)
        start = _at_height(aorta, z)
        back = 5 if side == "left" else 19  # the right one passes behind the vein
        tubes.append(swept(f"renal_artery_{side}",
                           [tuple(start), (start[0] + sign * 17, start[1] + back, z + 1), (sign * 38 + 4, 30, z - 2),
                            (sign * 51 + 4, 33, z - 5)], [3.3 * scale, 2.9 * scale, 2.8 * scale, 2.7 * scale], 0))
    for n, (side, sign) in enumerate((("left", 1), ("right", -1))):
        split = (sign * (27 + bend[6 + n] / 2) + 3, 18 + bend[8 + n], -62 + level / 2)
        common = swept(f"iliac_artery_{side}", [fork, (fork[0] + sign * 10, 8 + bend[8 + n] / 2, fork[2] - 14), split],
                       [5.4 * scale, 5.0 * scale, 4.8 * scale], 0)
        parent = len(tubes)
        tubes.append(common)
        external = [split, (split[0] + sign * 7, split[1] - 4, split[2] - 13), (split[0] + sign * 15, 8, -98)]
        internal = [split, (split[0] - sign * 1, split[1] + 9, split[2] - 12), (split[0] - sign * 3, 40, -98)]
        tubes.append(swept(f"external_iliac_artery_{side}", external, [4.0 * scale, 3.8 * scale, 3.7 * scale], parent))
        tubes.append(swept(f"internal_iliac_artery_{side}", internal, [3.1 * scale, 2.8 * scale, 2.6 * scale], parent))
    return tubes


def _at_height(tube: Tube, z: float) -> np.ndarray:
    return tube.centres[np.argmin(np.abs(tube.centres[:, 2] - z))]


def _narrowed(tubes: list[Tube], seed: int) -> tuple[list[Tube], Plaque]:
    """An eccentric narrowing in a common iliac: 60 % in the sample, 50 to 65 % elsewhere."""
    draw = rng(seed, "lesion")
    index = int(draw.choice([i for i, t in enumerate(tubes) if t.name.startswith("iliac")]))
    severity = 0.60 if seed in SAMPLE_SEEDS.values() else float(draw.uniform(0.50, 0.65))
    healthy = tubes[index]
    s = healthy.abscissa
    where = float(s[-1] * draw.uniform(0.48, 0.56))
    half = float(draw.uniform(8, 10))
    shape = np.where(np.abs(s - where) < half, (1 + np.cos(np.pi * (s - where) / half)) / 2, 0.0)
    side = _square_to(healthy, where, draw.normal(size=3))
    radii = healthy.radii * (1 - severity * shape)
    centres = healthy.centres - np.outer(0.6 * (healthy.radii - radii), side)
    tubes = [*tubes[:index], Tube(healthy.name, centres, radii, healthy.parent), *tubes[index + 1:]]
    return tubes, Plaque(index, where, half, severity, side, healthy)


def _square_to(tube: Tube, where: float, direction: np.ndarray) -> np.ndarray:
    i = int(np.argmin(np.abs(tube.abscissa - where)))
    tangent = tube.centres[i + 1] - tube.centres[i - 1]
    tangent /= np.linalg.norm(tangent)
    across = direction - tangent * (direction @ tangent)
    return across / np.linalg.norm(across)


def _vein(aorta: Tube) -> Tube:
    """A caval vein on the right that touches the aorta over 20 mm and keeps 5 mm elsewhere."""
    z = aorta.centres[:, 2]
    radius = 9.5
    gap = 5 * np.clip((np.abs(z - 25) - 10) / 12, 0, 1) - 0.2
    away = np.array([-0.95, 0.31, 0.0])
    return Tube("inferior_vena_cava", aorta.centres + np.outer(aorta.radii + radius + gap, away / np.linalg.norm(away)),
                np.full(len(z), radius))


def level(tubes: tuple[Tube, ...], points: np.ndarray, reach: float) -> np.ndarray:
    """Signed distance (mm, negative inside) to the smooth union of tubes at points (n, 3); at most `reach`."""
    total = np.full(len(points), reach)
    for tube in tubes:
        bound = reach + float(tube.radii.max())
        distance, index = cKDTree(tube.centres).query(points, distance_upper_bound=bound)
        near = np.isfinite(distance)
        mine = np.full(len(points), reach)
        mine[near] = np.minimum(distance[near] - tube.radii[index[near]], reach)
        total = _blend(total, mine)
    return total


def _blend(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Smooth minimum (polynomial, of width BLEND)."""
    h = np.clip(0.5 + (b - a) / (2 * BLEND), 0, 1)
    return b * (1 - h) + a * h - BLEND * h * (1 - h)


def near(grid: Grid, tubes: tuple[Tube, ...], reach: float) -> np.ndarray:
    """The level on a grid, `reach` far away."""
    x, y, z = (np.broadcast_to(a, grid.shape) for a in grid.axes())
    low, high = (np.array(f([f(t.centres, axis=0) for t in tubes], axis=0)) for f in (np.min, np.max))
    margin = reach + max(float(t.radii.max()) for t in tubes)
    close = np.ones(grid.shape, bool)
    for axis, (least, most) in zip((x, y, z), zip(low, high, strict=True), strict=True):
        close &= (axis > least - margin) & (axis < most + margin)
    values = np.full(grid.shape, reach, np.float32)
    values[close] = level(tubes, np.column_stack([x[close], y[close], z[close]]), reach)
    return values


@dataclass(frozen=True)
class Fine:
    """A finer grid around something: the refined grid, its place, and the level on it."""

    grid: Grid
    factors: tuple[int, int, int]
    first: tuple[int, int, int]
    values: np.ndarray


def refined(grid: Grid, coarse: np.ndarray, tubes: tuple[Tube, ...], factors: tuple[int, int, int] = (3, 3, 4)) -> Fine:
    """The level around `tubes` on a finer grid; exact within 2 mm of the edge, interpolated elsewhere."""
    inside = np.argwhere(coarse < 2.5)
    first = np.maximum(inside.min(axis=0) - 3, 0)
    last = np.minimum(inside.max(axis=0) + 4, grid.shape)
    n = (last - first) * np.array(factors)
    step = np.array(grid.spacing) / np.array(factors)
    origin = grid.affine[:3, 3] + first * np.array(grid.spacing) - np.array(grid.spacing) / 2 + step / 2
    fine = Grid(tuple(int(v) for v in n), tuple(float(v) for v in step),
                tuple(float(v) for v in origin + (n - 1) / 2 * step))
    index = [(np.arange(n[i]) + 0.5) / factors[i] - 0.5 + first[i] for i in range(3)]
    values = map_coordinates(coarse, np.meshgrid(*index, indexing="ij"), order=1, mode="nearest").astype(np.float32)
    band = np.abs(values) < 2.0
    where = np.argwhere(band) @ np.diag(step) + fine.affine[:3, 3]
    values[band] = level(tubes, where, 6.0)
    return Fine(fine, factors, tuple(int(v) for v in first), values)


def seen(grid: Grid, fine: Fine, values: np.ndarray) -> np.ndarray:
    """What the scanner makes of a field on the finer grid: point spread, then the mean over each voxel."""
    blurred = gaussian_filter(values.astype(np.float32), [POINT_SPREAD / s for s in fine.grid.spacing], mode="nearest")
    a, b, c = fine.factors
    n = tuple(s // f for s, f in zip(fine.grid.shape, fine.factors, strict=True))
    pooled = blurred.reshape(n[0], a, n[1], b, n[2], c).mean(axis=(1, 3, 5))
    whole = np.zeros(grid.shape, np.float32)
    place = tuple(slice(f, f + m) for f, m in zip(fine.first, n, strict=True))
    whole[place] = pooled
    return whole


def covered(fine: Fine) -> np.ndarray:
    """The share of each fine cell that lies inside."""
    return np.clip(0.5 - fine.values / float(np.mean(fine.grid.spacing)), 0, 1)


LUMEN = {"CT": 300.0, "MR": 900.0}
NOISE = {"CT": 25.0, "MR": 28.0}


def calcium(fine: Fine, plaque: Plaque) -> np.ndarray:
    """Share of each fine cell in the calcified crescent between lumen and old wall, opposite the residual lumen."""
    tube, side = plaque.healthy, plaque.side
    i = int(np.argmin(np.abs(tube.abscissa - plaque.abscissa)))
    centre = tube.centres[i] + side * (tube.radii[i] - 1.1)
    tangent = tube.centres[i + 8] - tube.centres[i - 8]
    tangent /= np.linalg.norm(tangent)
    third = np.cross(tangent, side)
    x, y, z = fine.grid.axes()
    offset = [x - centre[0], y - centre[1], z - centre[2]]
    along, out, across = (sum(o * d for o, d in zip(offset, v, strict=True)) for v in (tangent, side, third))
    body = (np.sqrt((along / 4.5) ** 2 + (out / 1.1) ** 2 + (across / 2.4) ** 2) - 1) * 1.1
    body = np.maximum(body, 0.4 - fine.values)
    return np.clip(0.5 - body / float(np.mean(fine.grid.spacing)), 0, 1)


def image(grid: Grid, who: Patient, seed: int, modality: str) -> tuple[np.ndarray, Fine]:
    """The image in HU or arbitrary units, and the lumen's level on the finer grid."""
    value = TISSUE[modality]
    picture = surroundings(grid, seed, modality)
    coarse = near(grid, who.tubes, 6.0)
    lay = painter(picture)
    outside = coarse if who.plaque is None else np.minimum(coarse, near(grid, (who.plaque.healthy,), 6.0))
    vein = near(grid, (who.vein,), 6.0)
    lay(softly(outside - 5.0, 1.5), value["fat"])
    lay(softly(vein, 0.4), value["vein"])
    lay(softly(outside - WALL, 0.3), value["wall"])
    lay(softly(np.maximum(vein, 0.3 - coarse), 0.3), value["vein"])
    picture = gaussian_filter(picture, [POINT_SPREAD / s for s in grid.spacing])
    fine = refined(grid, coarse, who.tubes)
    lay = painter(picture)
    if who.plaque is not None:
        lay(seen(grid, fine, calcium(fine, who.plaque)), value["calcium"])
    z = grid.axes()[2]
    bright = LUMEN[modality] * (1 + 0.0004 * z + 0.0002 * grid.axes()[0])
    share = seen(grid, fine, covered(fine))
    picture[...] = picture * (1 - share) + bright * share
    return _noisy(picture, grid, seed, modality), fine


def _noisy(picture: np.ndarray, grid: Grid, seed: int, modality: str) -> np.ndarray:
    """Slightly correlated noise: additive on CT, of the magnitude of a complex signal on MR."""
    draw = rng(seed, "noise", modality)

    def grain() -> np.ndarray:
        raw = gaussian_filter(draw.standard_normal(grid.shape).astype(np.float32), (0.5, 0.5, 0))
        return raw / raw.std() * NOISE[modality]

    if modality == "CT":
        return np.clip(np.rint(picture + grain()), -1024, 3071).astype(np.int16)
    return np.rint(np.hypot(picture + grain(), grain())).astype(np.int16)


def write_truth(folder: Path, grid: Grid, who: Patient, fine: Fine, seed: int, modality: str) -> None:
    """mask.nii.gz, surface.vtp, centreline.vtp and truth.json."""
    folder.mkdir(parents=True)
    x, y, z = (np.broadcast_to(a, grid.shape) for a in grid.axes())
    mask = near(grid, who.tubes, 2.0) < 0
    write_nifti(folder / "mask.nii.gz", Volume(mask.astype(np.uint8), grid.affine))
    surface = true_surface(fine)
    formats.write_mesh(folder / "surface.vtp", surface, "mm")
    formats.write_tree(folder / "centreline.vtp", true_tree(who))
    formats.write_json(folder / "truth.json", {
        "seed": seed, "modality": modality, "unit": "mm", "lesion": true_lesion(who),
        "lumen_volume_ml": float((fine.values < 0).sum() * np.prod(fine.grid.spacing) / 1000),
        "surface": "closed where vessels leave the image"})


def true_surface(fine: Fine) -> pyvista.PolyData:
    """The lumen's edge from every second point of the finer grid, closed at the image's faces."""
    affine = fine.grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    surface = isosurface.extract(Volume(fine.values[::2, ::2, ::2], affine)).parts()[0]
    faces = np.column_stack([np.full(len(surface.triangles), 3), surface.triangles]).ravel()
    return pyvista.PolyData(surface.points.astype(np.float32), faces)


def true_tree(who: Patient) -> Tree:
    """Every vessel as one branch, every 1 mm; areas of the circular sections."""
    return Tree(tuple(_branch(t) for t in who.tubes))


def _branch(tube: Tube) -> Branch:
    centres, radii = tube.centres[::5], tube.radii[::5]
    area = np.pi * radii**2
    return Branch(centres, radii, area, area, area, tube.parent, tube.name)


def true_lesion(who: Patient) -> dict[str, object] | None:
    if who.plaque is None:
        return None
    tube = who.tubes[who.plaque.tube]
    i = int(np.argmin(np.where(np.abs(tube.abscissa - who.plaque.abscissa) < who.plaque.half_length, tube.radii, 99)))
    reference = 2 * float(who.plaque.healthy.radii[i])
    minimal = 2 * float(tube.radii[i])
    return {"branch": tube.name, "position_lps": tube.centres[i].tolist(), "abscissa": float(tube.abscissa[i]),
            "length": 2 * who.plaque.half_length, "minimal_diameter": minimal, "minimal_area": np.pi * minimal**2 / 4,
            "reference_diameter": reference, "percent_diameter_stenosis": 100 * (1 - minimal / reference)}


def write_dicom(folder: Path, grid: Grid, values: np.ndarray, seed: int) -> None:
    """A CT series, one file a slice, JPEG-LS lossless, with the headers of a contrast study of nobody."""
    folder.mkdir(parents=True)
    for k in range(grid.shape[2]):
        _slice(grid, values, k, seed).save_as(folder / f"IM{k + 1:04d}.dcm", enforce_file_format=True)


def _slice(grid: Grid, values: np.ndarray, k: int, seed: int) -> Dataset:
    stored = (values[:, :, k].T.astype(np.int32) + 1024).astype(np.uint16)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = uid(seed, "image", k)
    for name, value in (_study(seed) | _geometry(grid, k, stored)).items():
        setattr(data, name, value)
    data.PixelData = encapsulate([imagecodecs.jpegls_encode(stored)])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    return data


def _study(seed: int) -> dict[str, object]:
    """Who, when and how: plausible, and of no person."""
    draw = rng(seed, "person")
    return {
        "PatientName": "Sample^Synthetic", "PatientID": f"SYN-{seed:04d}", "PatientBirthDate": "19570412",
        "PatientSex": "M", "PatientAge": f"{int(draw.integers(58, 76)):03d}Y", "PatientSize": "1.76",
        "PatientWeight": "79", "StudyDate": "20240314", "StudyTime": "101500", "SeriesTime": "102030",
        "AcquisitionDate": "20240314", "ContentDate": "20240314", "AccessionNumber": f"ACC{seed:05d}",
        "ReferringPhysicianName": "Nobody^Doctor", "InstitutionName": "Synthetic Hospital", "Manufacturer": "anatwin",
        "ManufacturerModelName": "make.py", "Modality": "CT", "StudyDescription": "CTA abdomen and pelvis",
        "SeriesDescription": "CTA arterial 1.5 mm", "ProtocolName": "CTA aorta", "BodyPartExamined": "ABDOMEN",
        "ContrastBolusAgent": "iodinated", "ContrastBolusRoute": "IV", "KVP": "100", "ConvolutionKernel": "soft",
        "PatientPosition": "HFS", "StudyID": "1", "SeriesNumber": "3", "AcquisitionNumber": "1",
        "StudyInstanceUID": uid(seed, "study"), "SeriesInstanceUID": uid(seed, "series"),
        "FrameOfReferenceUID": uid(seed, "frame"), "PositionReferenceIndicator": "",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "SpecificCharacterSet": "ISO_IR 192"}


def _geometry(grid: Grid, k: int, stored: np.ndarray) -> dict[str, object]:
    origin = grid.affine[:3, 3] + [0, 0, k * grid.spacing[2]]
    return {"Rows": stored.shape[0], "Columns": stored.shape[1], "InstanceNumber": str(k + 1),
            "ImagePositionPatient": [f"{v:.4f}" for v in origin], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [f"{grid.spacing[1]}", f"{grid.spacing[0]}"], "SliceThickness": f"{grid.spacing[2]}",
            "SliceLocation": f"{origin[2]:.4f}", "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
            "RescaleIntercept": "-1024", "RescaleSlope": "1", "RescaleType": "HU", "WindowCenter": "150",
            "WindowWidth": "600", "SmallestImagePixelValue": int(stored.min()),
            "LargestImagePixelValue": int(stored.max())}


def make(seed: int, scan: Path, truth: Path, modality: str = "CT", with_lesion: bool = True,
         size: str = "full") -> None:
    """Write one synthetic patient: `scan` (a folder) and `truth` (a folder), both made anew."""
    grid, who = GRIDS[modality, size], patient(seed, with_lesion)
    values, fine = image(grid, who, seed, modality)
    for folder in (scan, truth):
        shutil.rmtree(folder, ignore_errors=True)
    if modality == "CT":
        write_dicom(scan, grid, values, seed)
    else:
        scan.mkdir(parents=True)
        write_nifti(scan / f"{scan.name}.nii.gz", Volume(values, grid.affine))
    write_truth(truth, grid, who, fine, seed, modality)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seed", type=int, help="which patient; without it, the samples of the project are made")
    words.add_argument("--out", type=Path, default=Path(__file__).parent)
    words.add_argument("--modality", choices=["CT", "MR"], default="CT")
    words.add_argument("--no-lesion", action="store_true")
    words.add_argument("--size", choices=["full", "small"], default="full")
    asked = words.parse_args()
    if asked.seed is None:
        pet_ct.make(PET_SEED, asked.out / "trunk_pet_ct", asked.out / "trunk_pet_ct_truth")
        diffusion.make(DIFFUSION_SEED, asked.out / "brain_dwi", asked.out / "brain_dwi_truth")
        for name, seed in SAMPLE_SEEDS.items():
            make(seed, asked.out / name, asked.out / f"{name}_truth", "CT" if name.endswith("ct") else "MR")
    else:
        make(asked.seed, asked.out / "scan", asked.out / "truth", asked.modality, not asked.no_lesion, asked.size)


if __name__ == "__main__":
    main()
