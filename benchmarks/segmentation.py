"""Organs and vessels found, beside simple methods, against every reference there is.

    .venv/bin/python -m benchmarks.segmentation [--keep]

The simple methods get what ours do not: a seed, the deepest voxel of the reference.
`ANATWIN_TEST_DATA` is the folder of the real scans; without it only made ones are used.
--keep puts the table into README.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyvista
import SimpleITK
from scipy import ndimage

from pipeline import formats
from pipeline.ingest import IngestConfig, IngestInputs, IngestOutputs, ingest
from pipeline.segment import arteries, organs
from pipeline.stage import run
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from tests.conftest import ROOT, shared_folder
from tests.scans import dice, inside, on_grid, turned

HERE = Path(__file__).parent
SEEDS = range(21, 26)
BONES, CARTILAGE = (*range(26, 52), *range(92, 117)), 117
LABELS = {"spleen": (1,), "kidney_right": (2,), "kidney_left": (3,), "liver": (5,), "skeleton": BONES,
          "aorta": (52,), "lung_left": (10, 11), "lung_right": (12, 13, 14)}
"""Numbers in the references of TotalSegmentator."""
Method = Callable[[Volume, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Target:
    """A structure with its reference; bar: wished Dice; counted: where it is compared (all where None)."""

    name: str
    reference: np.ndarray
    simple: Method
    bar: float | None = None
    counted: np.ndarray | None = None


@dataclass(frozen=True)
class Case:
    """A scan with its references. organs: whether they are sought; tuned: the method was made looking at it."""

    scan: str
    volume: Volume
    targets: list[Target]
    is_ct: bool = True
    organs: bool = True
    tuned: bool = False


@dataclass(frozen=True)
class Row:
    """Dice of ours and of the simple method, one of each made scan or one of a real one."""

    scan: str
    name: str
    tuned: bool
    bar: float | None
    ours: list[float] = field(default_factory=list)
    simple: list[float] = field(default_factory=list)


# Simple methods


def confidence_connected(volume: Volume, reference: np.ndarray) -> np.ndarray:
    """Region growing from the reference's deepest voxel: within 2.5 standard deviations of what is grown."""
    depth = ndimage.distance_transform_edt(reference, volume.spacing)
    seed = np.unravel_index(int(np.argmax(depth)), depth.shape)
    smooth = ndimage.median_filter(np.asarray(volume.values, np.float32), 3)
    grown = SimpleITK.ConfidenceConnected(SimpleITK.GetImageFromArray(smooth.T), [tuple(int(n) for n in seed)],
                                          numberOfIterations=4, multiplier=2.5, initialNeighborhoodRadius=2)
    return SimpleITK.GetArrayFromImage(grown).T > 0


def dense(volume: Volume, _reference: np.ndarray) -> np.ndarray:
    """Above 200 HU, parts of 1 ml or more."""
    labels, _ = ndimage.label(np.asarray(volume.values) > 200)
    large = np.bincount(labels.ravel()) * volume.voxel_volume > 1000
    large[0] = False
    return np.asarray(large[labels])


def airy(volume: Volume, reference: np.ndarray) -> np.ndarray:
    """Below -400 HU, the part that holds the reference's deepest voxel."""
    labels, _ = ndimage.label(np.asarray(volume.values) < -400)
    depth = ndimage.distance_transform_edt(reference, volume.spacing)
    n = labels.ravel()[int(np.argmax(depth))]
    return np.asarray((labels == n) & (n > 0))


def between(low: float, high: float) -> Method:
    return lambda volume, _reference: (np.asarray(volume.values) > low) & (np.asarray(volume.values) < high)


METHODS: dict[str, Method] = {"skeleton": dense, "lung_left": airy, "lung_right": airy,
                              "subcutaneous_fat": between(-190, -30), "torso_fat": between(-190, -30),
                              "skeletal_muscle": between(-29, 150)}


def target(name: str, reference: np.ndarray, bar: float | None = None, counted: np.ndarray | None = None) -> Target:
    return Target(name, reference, METHODS.get(name, confidence_connected), bar, counted)


# Scans


def real(shared: Path, home: Path) -> Iterator[Case]:
    folder = shared / "scans" / "ts-aorta-cta" / "aorta_report" / "test_result" / "models"
    bars = {"aorta": 0.90, "true lumen": 0.85, "false lumen": None}
    files = {"aorta": "aorta", "true lumen": "aorta_true_lumen", "false lumen": "aorta_false_lumen"}
    yield Case("dissected aorta, CTA", float_volume(folder / "ct_cropped.nii.gz"),
               [target(n, mask_of(folder / f"{files[n]}.nii.gz"), bar) for n, bar in bars.items()], organs=False,
               tuned=True)
    folder = shared / "scans" / "ts-abdomen-ct"
    yield contrast(folder, home)
    yield native(folder)
    yield mra(shared / "scans" / "vmtk-aorta-mra" / "input")


def contrast(folder: Path, home: Path) -> Case:
    out: IngestOutputs = run(ingest, IngestInputs(scan=folder / "example_ct_dicom"), IngestConfig(), home)
    volume = float_volume(out.volume)
    labels = on_grid(formats.read_volume(folder / "example_seg_dicom.nii.gz"), volume)
    return Case("contrast CT, 20 slices", volume, [target(n, np.isin(labels, LABELS[n]), 0.88)
                                                  for n in ("aorta", "liver", "spleen")], tuned=True)


def native(folder: Path) -> Case:
    volume = float_volume(folder / "example_ct_sm.nii.gz")
    labels = np.asarray(formats.read_volume(folder / "example_seg.nii.gz").values)
    bars = {"skeleton": 0.85, "spleen": 0.85, "kidney_left": 0.85, "kidney_right": 0.85, "liver": None,
            "lung_left": None, "lung_right": None}
    targets = [target(n, np.isin(labels, LABELS[n]), bar, labels != CARTILAGE if n == "skeleton" else None)
               for n, bar in bars.items()]
    tissues = ("subcutaneous_fat", "torso_fat", "skeletal_muscle")
    targets += [target(n, mask_of(folder / "example_seg_tissue_types" / f"{n}.nii.gz")) for n in tissues]
    return Case("native CT, 30 slices", volume, targets, tuned=True)


def mra(folder: Path) -> Case:
    """Compared 4 slices within the ends of the reference and within 6 mm of it: side branches are not in it."""
    image = SimpleITK.ReadImage(str(folder / "aorta.mha"))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    volume = Volume(SimpleITK.GetArrayFromImage(image).T.astype(np.float32), affine)
    surface = turned(pyvista.read(folder / "aorta-surface.vtp"))
    reference = inside(surface, volume)
    along = volume.index(np.asarray(surface.points))[:, 1]
    counted = ndimage.distance_transform_edt(~reference, volume.spacing) < 6
    counted[:, :int(np.ceil(along.min())) + 4] = False
    counted[:, int(along.max()) - 4:] = False
    return Case("abdominal aorta, MRA", volume, [target("arterial lumen", reference, 0.94, counted)], is_ct=False,
                organs=False)


def made() -> Iterator[Case]:
    """Chests and trunks of tests/unit, seeds that no method was tuned on."""
    sys.path.append(str(ROOT / "tests" / "unit"))
    import thorax
    import trunk

    for seed in SEEDS:
        chest = thorax.make(seed)
        yield Case("made chests, open valve", Volume(chest.values, np.diag([*chest.spacing, 1.0])),
                   [target("aorta", chest.aorta, 0.95)], organs=False)
        chest = thorax.make(seed, false_contrast=0.55)
        yield Case("made chests, dissected", Volume(chest.values, np.diag([*chest.spacing, 1.0])), [
            target("aorta", chest.aorta), target("true lumen", chest.true_lumen),
            target("false lumen", chest.false_lumen)], organs=False)
    names = ("liver", "spleen", "kidney_left", "kidney_right", "skeleton", "lung_left", "lung_right")
    for seed in SEEDS:
        for name, phase in (("portal", True), ("native", False)):
            body = trunk.make(seed, phase, z=(-90.0, 150.0), spacing=(3.0, 3.0, 3.0))
            yield Case(f"made trunks, {name}", Volume(body.values, np.diag([*body.spacing, 1.0])),
                       [target(n, body.truth[n]) for n in names])


def float_volume(path: Path) -> Volume:
    volume = formats.read_volume(path)
    return volume.but(np.asarray(volume.values, np.float32))


def mask_of(path: Path) -> np.ndarray:
    return np.asarray(formats.read_volume(path).values) > 0


# Measured


def found(case: Case) -> dict[str, np.ndarray]:
    """Masks by name, as the segment stage makes them."""
    wanted = {t.name for t in case.targets}
    masks: dict[str, np.ndarray] = {}
    lumen = None
    if wanted & {"aorta", "true lumen", "false lumen", "arterial lumen"}:
        try:
            lumen = arteries.lumen(case.volume, case.is_ct, arteries.Limits())
        except BadInput as problem:
            print(f"{case.scan}: {problem}", file=sys.stderr)
    if lumen is not None:
        nothing = np.zeros(case.volume.values.shape, bool)
        aorta, false = (nothing if m is None else m for m in (lumen.aorta, lumen.false_lumen))
        masks = {"arterial lumen": lumen.field < 0, "aorta": aorta, "false lumen": aorta & false,
                 "true lumen": aorta & (lumen.field < 0)}
    if case.organs:
        seen = organs.find(case.volume, lumen)
        masks |= {n: o.mask for n, o in seen.found.items()}
    return masks


def measured(cases: Iterator[Case]) -> list[Row]:
    rows: dict[tuple[str, str], Row] = {}
    for case in cases:
        masks = found(case)
        for t in case.targets:
            row = rows.setdefault((case.scan, t.name), Row(case.scan, t.name, case.tuned, t.bar))
            everywhere = np.ones(t.reference.shape, bool) if t.counted is None else t.counted
            wanted = t.reference & everywhere
            ours = masks.get(t.name, np.zeros(t.reference.shape, bool))
            row.ours.append(dice(ours & everywhere, wanted))
            row.simple.append(dice(t.simple(case.volume, t.reference) & everywhere, wanted))
            print(f"{case.scan}, {t.name}: {row.ours[-1]:.3f}, simple {row.simple[-1]:.3f}", file=sys.stderr,
                  flush=True)
    return list(rows.values())


def table(rows: list[Row]) -> str:
    lines = ["| scan | structure | Dice ours | Dice simple | tuned | bar | met |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        bar = "" if r.bar is None else f"{r.bar:.2f}"
        met = "" if r.bar is None else "yes" if min(r.ours) >= r.bar else "**no**"
        lines.append(f"| {r.scan} | {r.name} | {told(r.ours)} | {told(r.simple)} | {'tuned' if r.tuned else 'no'} "
                     f"| {bar} | {met} |")
    return "\n".join(lines)


def told(scores: list[float]) -> str:
    """The lowest, and the mean of several; three digits, so that no bar is met by rounding."""
    if max(scores) == 0:
        return "not found"
    return f"{min(scores):.3f}" + (f" (mean {np.mean(scores):.3f})" if len(scores) > 1 else "")


def keep(text: str) -> None:
    """Put into README.md between its two marks."""
    page = HERE / "README.md"
    start, end = "<!-- segmentation -->\n", "<!-- end of segmentation -->"
    before, rest = page.read_text().split(start)
    page.write_text(before + start + text + "\n" + end + rest.split(end)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="write the table into README.md")
    options = parser.parse_args()
    shared = shared_folder()
    with tempfile.TemporaryDirectory() as home:
        rows = measured(real(shared, Path(home) / "ingest")) if shared else []
    text = table(rows + measured(made()))
    print(text)
    if options.keep and shared is None:
        sys.exit("Not kept: the real scans are absent; set ANATWIN_TEST_DATA to their folder.")
    if options.keep:
        keep(text)


if __name__ == "__main__":
    main()
