"""A scan taken through the first stages as a recipe would, and how far the result is from a truth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvista
from vtkmodules.vtkImagingStencil import vtkImageStencilToImage, vtkPolyDataToImageStencil

from pipeline import formats
from pipeline.extract_surface import (
    ExtractSurfaceConfig,
    ExtractSurfaceInputs,
    ExtractSurfaceOutputs,
    extract_surface,
)
from pipeline.ingest import IngestConfig, IngestInputs, IngestOutputs, ingest
from pipeline.segment import SegmentConfig, SegmentInputs, SegmentOutputs, segment
from pipeline.stage import run
from pipeline.trace_centrelines import (
    TraceCentrelinesConfig,
    TraceCentrelinesInputs,
    TraceCentrelinesOutputs,
    trace_centrelines,
)
from solvers.geometry.branching import Wall
from solvers.geometry.centrelines import Lesion, Tree
from solvers.geometry.surface import Surface
from solvers.geometry.volume import Volume


@dataclass(frozen=True)
class Traced:
    """The outputs of the stages from the scan to its centrelines; `report` of the last one."""

    image: IngestOutputs
    labels: SegmentOutputs
    surfaces: ExtractSurfaceOutputs
    lines: TraceCentrelinesOutputs
    report: dict

    @property
    def tree(self) -> Tree:
        return formats.read_tree(self.lines.centrelines)

    @property
    def lesions(self) -> list[Lesion]:
        return formats.read_lesions(self.lines.lesions)


def traced(scan: Path, home: Path) -> Traced:
    """Ingest, segment, extract_surface and trace_centrelines with the settings they come with."""
    image = run(ingest, IngestInputs(scan=scan), IngestConfig(), home / "ingest")
    labels = run(segment, SegmentInputs(volume=image.volume, sidecar=image.sidecar), SegmentConfig(), home / "segment")
    surfaces = run(extract_surface, ExtractSurfaceInputs(labels=labels.labels, table=labels.table, lumen=labels.lumen,
                                                         inner=labels.inner, outer=labels.outer),
                   ExtractSurfaceConfig(), home / "extract_surface")
    lines = run(trace_centrelines, TraceCentrelinesInputs(
        surface=surfaces.lumen, inner=surfaces.inner, outer=surfaces.outer, sidecar=image.sidecar,
        labels=labels.labels, table=labels.table), TraceCentrelinesConfig(), home / "trace_centrelines")
    report = formats.read_json(home / "trace_centrelines" / "record.json")["report"]
    return Traced(image, labels, surfaces, lines, report)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * np.sum(a & b) / (a.sum() + b.sum()))


def surface_of(path: Path) -> Surface:
    mesh = formats.read_mesh(path, "mm")
    return Surface(np.asarray(mesh.points, float), mesh.regular_faces.astype(np.int64))


def apart(a: Surface, b: Surface, every: int = 7) -> float:
    """Mean distance of two surfaces, mm: of each from the other at every so-manieth point, both ways."""
    ways = [Wall(to).distance(other.points[::every]) for to, other in ((a, b), (b, a))]
    return float(np.mean([way.mean() for way in ways]))


def on_grid(reference: Volume, volume: Volume) -> np.ndarray:
    """The reference's label at each voxel of the volume, nearest; both in LPS."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.values.shape], indexing="ij"), -1).reshape(-1, 3)
    at = np.rint(reference.index(volume.position(index))).astype(int)
    good = np.all((at >= 0) & (at < reference.values.shape), axis=1)
    found = np.zeros(len(at), int)
    found[good] = reference.values[tuple(at[good].T)]
    return found.reshape(volume.values.shape)


def inside(surface: Any, grid: Volume) -> np.ndarray:
    """The voxels whose centres a closed surface holds."""
    shape = grid.values.shape
    moved = surface.copy()
    moved.points = grid.index(np.asarray(surface.points)).astype(np.float32)
    stencil = vtkPolyDataToImageStencil()
    stencil.SetInputData(moved)
    stencil.SetOutputWholeExtent(0, shape[0] - 1, 0, shape[1] - 1, 0, shape[2] - 1)
    cut = vtkImageStencilToImage()
    cut.SetInputConnection(stencil.GetOutputPort())
    cut.Update()
    return pyvista.wrap(cut.GetOutput()).point_data.active_scalars.reshape(shape, order="F") > 0


def turned(mesh: Any) -> Any:
    """A reference of the MRA is RAS: the same in LPS."""
    mesh.points = np.asarray(mesh.points) * (-1, -1, 1)
    return mesh
