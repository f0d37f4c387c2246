"""A B-spline on top of a rigid transform, by the same mutual information; it must earn its place.

Source: Rueckert et al. 1999 (B-spline free-form deformation), doi:10.1109/42.796284.
"""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from solvers.registration import agreement, grids, rigid
from solvers.registration.agreement import Agreement, Scene
from solvers.registration.rigid import Pictures, Rigid, Scheme

INJECTIVE = 1 / 2.48
"""Of the control spacing: while no coefficient is larger, a cubic spline does not fold. Source: Choi & Lee 2000,
recalled."""
LEAST_JACOBIAN = 0.2
"""Of the determinant: tissue pressed to less than a fifth of its volume is a fold in the making."""
DICE_LOST = 0.005
"""A body may lose this much of its Dice and not count as worse."""


@dataclass(frozen=True)
class Bend:
    """control: spacing of the spline's control points, mm. iterations: at most so many in each pass, which keeps it
    from following noise. levels, points: as of `Scheme`.

    repeats: how many of the rigid transforms that were found are bent anew for the spread.
    """

    control: float = 50.0
    iterations: int = 20
    points: int = 15000
    levels: tuple[int, ...] = (4, 2)
    repeats: int = 1


@dataclass(frozen=True)
class Warp:
    """transform: reference to moving, the rigid part after the spline. spread: as of `Rigid`.

    jacobian: lowest and highest determinant in the reference's body. refused: why the rigid transform is to be kept;
    empty when it is not.
    """

    transform: sitk.CompositeTransform
    spread: float
    jacobian: tuple[float, float]
    refused: str


def solve(scene: Scene, modalities: tuple[str, str], scheme: Scheme, bend: Bend, start: Rigid) -> Warp:
    """The spline on `start`, and whether it folds or fails to help."""
    seen = rigid.pictures(scene, modalities, scheme.finest)
    coarse = replace(scheme, levels=bend.levels, points=bend.points)
    with grids.one_thread():
        bent = [_bent(scene, seen, coarse, bend, one, n) for n, one in enumerate(start.found[:1 + bend.repeats])]
    points = agreement.body_points(scene.fixed, scene.fixed_body)
    places = [grids.mapped(one, points) for one in bent]
    apart = [np.square(p - places[0]).sum(axis=1).mean() for p in places[1:]]
    jacobian = _jacobian(scene, bent[0], scheme.finest)
    fault = _fault(scene, scheme, start, bent[0], jacobian)
    return Warp(bent[0], float(np.sqrt(np.mean(apart or [0.0]))), jacobian, fault)


def _bent(scene: Scene, seen: Pictures, scheme: Scheme, bend: Bend, start: sitk.Euler3DTransform,
          number: int) -> sitk.CompositeTransform:
    """The spline over the reference's whole grid, by L-BFGS-B."""
    whole = scene.fixed.spacing * (np.array(scene.fixed.values.shape) - 1)
    cells = np.maximum(1, np.rint(whole / bend.control)).astype(int).tolist()
    largest = INJECTIVE * float((whole / cells).min())
    grid = grids.to_itk(scene.fixed.but(np.zeros(scene.fixed.values.shape)), np.uint8)
    spline = sitk.BSplineTransformInitializer(grid, cells, order=3)
    method = rigid.metric(seen, scheme, 200 + number)
    method.SetOptimizerAsLBFGSB(gradientConvergenceTolerance=1e-5, numberOfIterations=bend.iterations,
                                maximumNumberOfFunctionEvaluations=2 * bend.iterations,
                                maximumNumberOfCorrections=8, costFunctionConvergenceFactor=1e8, lowerBound=-largest,
                                upperBound=largest)
    method.SetMovingInitialTransform(start)
    method.SetInitialTransform(spline, inPlace=True)
    method.Execute(seen.fixed, seen.moving)
    return sitk.CompositeTransform([start, spline])


def _jacobian(scene: Scene, transform: sitk.Transform, finest: float) -> tuple[float, float]:
    """Lowest and highest determinant of the transform's derivative over the reference's body, the grid's rim apart:
    the derivative there is taken on one side, at half of its size."""
    body = grids.coarser(scene.fixed.but(scene.fixed_body), 2 * finest)
    image = grids.to_itk(body)
    with grids.one_thread():
        field = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, image.GetSize(), image.GetOrigin(),
                                                  image.GetSpacing(), image.GetDirection())
        found = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field)).T
    core = tuple(slice(1, -1) if n > 2 else slice(None) for n in found.shape)
    inside = found[core][np.asarray(body.values)[core] > 0.5]
    return float(inside.min()), float(inside.max())


def _fault(scene: Scene, scheme: Scheme, start: Rigid, bent: sitk.Transform, jacobian: tuple[float, float]) -> str:
    if jacobian[0] < LEAST_JACOBIAN:
        return f"it presses tissue to {jacobian[0]:.2f} of its volume"
    before, after = (agreement.judge(scene, t, scheme.bins) for t in (start.transform, bent))
    return _no_better(before, after, start.gain_spread)


def _no_better(before: Agreement, after: Agreement, spread: float) -> str:
    if after.mutual_information < before.mutual_information + spread:
        return "mutual information does not rise beyond its spread"
    return "the bodies overlap less" if after.dice < before.dice - DICE_LOST else ""
