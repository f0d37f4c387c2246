"""Six numbers that lay one image on another by mutual information, and the spread of what other starts find.

Sources: Mattes et al. 2003 (mutual information with B-spline windows), doi:10.1109/TMI.2003.809072; Lowekamp et al.
2013 (SimpleITK), doi:10.3389/fninf.2013.00045.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from solvers.errors import DidNotConverge
from solvers.geometry.volume import Volume
from solvers.randomness import rng
from solvers.registration import agreement, grids, outline
from solvers.registration.agreement import Scene

MARGIN = 10.0
"""mm round the body that count: its edge needs both sides; the table and the air do not."""
CT_WINDOW = (-200.0, 300.0)
"""HU that tell tissues apart: the bins are not spent on air and metal."""


@dataclass(frozen=True)
class Scheme:
    """finest: shortest voxel edge used, mm. levels: how much coarser each pass is. points: samples of the last pass.

    repeats: further starts, moved by up to `shift` mm and turned by up to `turn` rad along each axis.
    """

    finest: float = 2.0
    levels: tuple[int, ...] = (4, 2, 1)
    points: int = 30000
    bins: int = 32
    iterations: int = 300
    repeats: int = 4
    shift: float = 8.0
    turn: float = 0.07
    seed: int = 1


@dataclass(frozen=True)
class Rigid:
    """transform: reference to moving. found: this one first, then the repeats.

    spread: root mean square distance in mm, over the reference's body, of where the repeats put a point from where it
    puts it. gain_spread: standard deviation of the mutual information of all.
    """

    transform: sitk.Euler3DTransform
    found: tuple[sitk.Euler3DTransform, ...]
    spread: float
    gain_spread: float
    n_iterations: int


@dataclass(frozen=True)
class Pictures:
    """What the optimiser sees: both images on working grids, contrast limited, nothing beyond the body."""

    fixed: sitk.Image
    mask: sitk.Image
    moving: sitk.Image
    n_inside: int


def pictures(scene: Scene, modalities: tuple[str, str], finest: float) -> Pictures:
    """Both images ready for the optimiser; modalities of reference and moving image (CT, MR, PT)."""
    fixed, near = _shown(scene.fixed, scene.fixed_body, modalities[0], finest)
    moving, _ = _shown(scene.moving, scene.moving_body, modalities[1], finest)
    box = tuple(slice(int(a.min()), int(a.max()) + 1) for a in np.nonzero(near))
    image, mask = grids.to_itk(fixed)[box], grids.to_itk(fixed.but(near), np.uint8)[box]
    return Pictures(image, mask, grids.to_itk(moving), int(near.sum()))


def _shown(volume: Volume, body: np.ndarray, modality: str, finest: float) -> tuple[Volume, np.ndarray]:
    """An image on its working grid, 0 (dark) to 1, and the mask of the body with its margin there."""
    near = outline.around(body, volume.spacing, MARGIN)
    low, high = CT_WINDOW if modality == "CT" else np.percentile(np.asarray(volume.values)[near], [1, 99])
    scaled = np.clip((np.asarray(volume.values, np.float32) - low) / max(high - low, 1e-9), 0, 1)
    scaled = np.where(near, np.sqrt(scaled) if modality == "PT" else scaled, 0)
    working = grids.coarser(volume.but(scaled), finest)
    steps = np.rint(working.spacing / volume.spacing).astype(int)
    return working, near[tuple(slice(None, None, int(s)) for s in steps)]


def solve(scene: Scene, modalities: tuple[str, str], scheme: Scheme, starts: Sequence[sitk.Euler3DTransform]) -> Rigid:
    """The transform that agrees best of those from `starts` and from starts about the best of them.

    DidNotConverge `registration_did_not_converge` when the best one was still moving at its last iteration.
    """
    seen = pictures(scene, modalities, scheme.finest)
    with grids.one_thread():
        first = [_descend(seen, start, scheme, n) for n, start in enumerate(starts)]
        best = max(first, key=lambda f: agreement.judge(scene, f.transform, scheme.bins).mutual_information)
        others = [_descend(seen, start, scheme, 100 + n) for n, start in enumerate(_about(best.transform, scheme))]
    return _chosen(scene, scheme, [best, *others])


@dataclass(frozen=True)
class Descent:
    transform: sitk.Euler3DTransform
    n_iterations: int
    is_done: bool


def _chosen(scene: Scene, scheme: Scheme, found: Sequence[Descent]) -> Rigid:
    """The one of greatest mutual information, with the spread of the others about it."""
    gains = [agreement.judge(scene, f.transform, scheme.bins).mutual_information for f in found]
    order = sorted(range(len(found)), key=lambda n: -gains[n])
    best = found[order[0]]
    if not best.is_done:
        raise DidNotConverge("registration_did_not_converge", f"the registration was still moving after "
                             f"{best.n_iterations} iterations", "steps below 1e-3",
                             "Look whether the two scans show the same part of the body.")
    places = [grids.mapped(found[n].transform, _points(scene)) for n in order]
    apart = [np.square(p - places[0]).sum(axis=1).mean() for p in places[1:]]
    return Rigid(best.transform, tuple(found[n].transform for n in order), float(np.sqrt(np.mean(apart or [0.0]))),
                 float(np.std(gains, ddof=1)) if len(gains) > 1 else 0.0, best.n_iterations)


def _points(scene: Scene) -> np.ndarray:
    return agreement.body_points(scene.fixed, scene.fixed_body)


def identity(scene: Scene) -> sitk.Euler3DTransform:
    """No motion, turning about the middle of the reference's body."""
    made = sitk.Euler3DTransform()
    made.SetCenter(_points(scene).mean(axis=0).tolist())
    return made


def centred(scene: Scene) -> sitk.Euler3DTransform:
    """The shift that lays the middle of the moving body on that of the reference's."""
    made = identity(scene)
    middle = agreement.body_points(scene.moving, scene.moving_body).mean(axis=0)
    made.SetTranslation((middle - np.array(made.GetCenter())).tolist())
    return made


def _about(best: sitk.Euler3DTransform, scheme: Scheme) -> list[sitk.Euler3DTransform]:
    """Starts about a transform, each moved and turned by its own draw."""
    made = []
    for n in range(scheme.repeats):
        draw = rng(scheme.seed, "registration", str(n)).uniform(-1, 1, 6)
        start = sitk.Euler3DTransform(best)
        angles = [start.GetAngleX(), start.GetAngleY(), start.GetAngleZ()]
        start.SetRotation(*(a + float(d) * scheme.turn for a, d in zip(angles, draw[:3], strict=True)))
        start.SetTranslation((np.array(start.GetTranslation()) + draw[3:] * scheme.shift).tolist())
        made.append(start)
    return made


def _descend(seen: Pictures, start: sitk.Euler3DTransform, scheme: Scheme, number: int) -> Descent:
    """From one start down to the least negative mutual information, coarse to fine."""
    method = metric(seen, scheme, number)
    method.SetOptimizerAsRegularStepGradientDescent(learningRate=2.0, minStep=1e-3, relaxationFactor=0.6,
                                                    numberOfIterations=scheme.iterations,
                                                    gradientMagnitudeTolerance=1e-8)
    method.SetOptimizerScalesFromPhysicalShift()
    moved = sitk.Euler3DTransform(start)
    method.SetInitialTransform(moved, inPlace=True)
    method.Execute(seen.fixed, seen.moving)
    steps = method.GetOptimizerIteration()
    return Descent(moved, steps, steps < scheme.iterations - 1)


def metric(seen: Pictures, scheme: Scheme, number: int) -> sitk.ImageRegistrationMethod:
    """Mattes' mutual information over points drawn once per pass, of one seed."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(scheme.bins)
    method.SetMetricFixedMask(seen.mask)
    method.SetMetricSamplingStrategy(method.RANDOM)
    size = float(np.prod(seen.fixed.GetSize()))
    shares = [min(1.0, scheme.points * size / seen.n_inside / (size / level**3)) for level in scheme.levels]
    method.SetMetricSamplingPercentagePerLevel(shares, scheme.seed + number)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(list(scheme.levels))
    method.SetSmoothingSigmasPerLevel([0.5 * level * scheme.finest if level > 1 else 0.0 for level in scheme.levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method
