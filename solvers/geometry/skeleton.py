"""The tree of a tube-like body: where it ends, and the way from the inlet to each end.

The body is looked at as voxels. From a root, the way to the farthest place not
yet explained is taken along the middle of the tube (paths avoid the wall), and
everything within about one radius of the way counts as explained; ways that
leave the tree for less than about one diameter of their parent are bulges, not
branches. A flat tube is as wide as its section's area makes it: half its width
counts where a round one has its radius. Source of the scheme: Sato et al. 2000 (TEASAR), doi:10.1109/PCCGA.2000.883951.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from solvers.errors import BadInput
from solvers.geometry.surface import Surface
from solvers.geometry.volume import Volume

FLATTEST = 3.5
"""A lumen is not taken for flatter than this (half its width over its depth)."""
OVER = 28.0
"""A lumen is flat over more than half of this length, mm; where branches leave, a section is wide for a short while."""
ROUND = 2.0
"""Below this a section counts as round: a front lies askew in a bend and takes in the first part of a branch."""


@dataclass(frozen=True)
class Pruning:
    """What counts as a branch. Lengths from the parent's centreline, mm."""

    parent_radii: float = 2.3
    smallest_radius: float = 1.5
    smallest_length: float = 6.0


@dataclass(frozen=True)
class Ways:
    """Ways from the inlet to the other ends, each (n, 3) LPS mm with the distance to the wall (n,)."""

    points: tuple[np.ndarray, ...]
    radius: tuple[np.ndarray, ...]
    pruned: int


@dataclass(frozen=True)
class Body:
    """Inside voxels as a graph: positions (n, 3) mm, distance to the wall (n,) mm, links between neighbours.

    voxel: volume of one, mm^3.
    """

    points: np.ndarray
    depth: np.ndarray
    links: np.ndarray
    lengths: np.ndarray
    voxel: float

    def graph(self, weights: np.ndarray) -> sparse.csr_matrix:
        n = len(self.points)
        return sparse.csr_matrix((weights, (self.links[:, 0], self.links[:, 1])), shape=(n, n))

    @property
    def by_length(self) -> sparse.csr_matrix:
        return self.graph(self.lengths)

    @property
    def by_middle(self) -> sparse.csr_matrix:
        """Costs that keep a way off the wall."""
        depth = (self.depth[self.links[:, 0]] + self.depth[self.links[:, 1]]) / 2
        return self.graph(self.lengths / depth**3)


def voxelised(surface: Surface, step: float) -> Volume:
    """1 where the centre of a voxel of edge `step` (mm) lies inside the closed surface."""
    import pyvista
    from vtkmodules.util import numpy_support
    from vtkmodules.vtkImagingStencil import vtkImageStencilToImage, vtkPolyDataToImageStencil

    low = surface.points.min(axis=0) - 2 * step
    shape = np.ceil((surface.points.max(axis=0) + 2 * step - low) / step).astype(int) + 1
    stencil = vtkPolyDataToImageStencil()
    stencil.SetInputData(pyvista.PolyData.from_regular_faces(surface.points, surface.triangles))
    stencil.SetOutputOrigin(*low)
    stencil.SetOutputSpacing(step, step, step)
    stencil.SetOutputWholeExtent(0, shape[0] - 1, 0, shape[1] - 1, 0, shape[2] - 1)
    image = vtkImageStencilToImage()
    image.SetInputConnection(stencil.GetOutputPort())
    image.SetInsideValue(1)
    image.SetOutsideValue(0)
    image.SetOutputScalarTypeToUnsignedChar()
    image.Update()
    scalars = numpy_support.vtk_to_numpy(image.GetOutput().GetPointData().GetScalars())
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = low
    return Volume(scalars.reshape(shape, order="F").copy(), affine)


def body(mask: Volume) -> Body:
    """The largest part of `mask` (connected by faces) as a graph of 26 neighbours."""
    label, n = ndimage.label(mask.values > 0)
    if n == 0:
        raise BadInput("empty_lumen", "The surface encloses no voxel", "a closed surface in mm",
                       "Check the unit of the surface.")
    inside = label == 1 + np.argmax(np.bincount(label.ravel())[1:])
    inside = np.pad(inside, 1)
    depth = ndimage.distance_transform_edt(inside, sampling=mask.spacing) - mask.spacing.mean() / 2
    number = np.full(inside.shape, -1)
    where = np.argwhere(inside)
    number[inside] = np.arange(len(where))
    links, lengths = _links(number, where, mask.spacing)
    return Body(mask.position(where - 1), depth[inside], links, lengths, float(np.prod(mask.spacing)))


def _links(number: np.ndarray, where: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.array([o for o in np.ndindex(3, 3, 3) if o != (1, 1, 1)]) - 1
    links, lengths = [], []
    for offset in offsets:
        other = number[tuple((where + offset).T)]
        start = np.flatnonzero(other >= 0)
        links.append(np.column_stack([start, other[start]]))
        lengths.append(np.full(len(start), np.linalg.norm(offset * spacing)))
    return np.vstack(links), np.concatenate(lengths)


def ways_from(body: Body, root: int, pruning: Pruning) -> Ways:
    """Ways from voxel `root` to every other end of the body."""
    far = csgraph.dijkstra(body.by_length, indices=root)
    back = csgraph.dijkstra(body.by_length, indices=int(far.argmax()))
    reach = np.maximum(half_widths(body, far), half_widths(body, back))
    edge = body.voxel ** (1 / 3)
    middle = body.by_middle
    near = cKDTree(body.points)
    explained = np.zeros(len(body.points), bool)
    explained[root] = True
    upstream = {root: -1}
    tips, pruned, before = [], 0, _ways_to_tree(middle, upstream)
    while not explained.all():
        path = _back(before, int(np.where(explained, -1.0, far).argmax()))
        reach[path[1:]] = _steady(reach[path], body.depth[path], OVER / edge)[1:]
        for here in near.query_ball_point(body.points[path], 1.25 * reach[path] + 1.5):
            explained[here] = True
        explained[path] = True
        if not tips or _is_branch(body, reach, path[0], path[1:], pruning):
            upstream.update(zip(path[1:].tolist(), path[:-1].tolist(), strict=True))
            tips.append(int(path[-1]))
            before = _ways_to_tree(middle, upstream)
        elif len(path) > 4:
            pruned += 1
    kept = [_up(upstream, tip) for tip in tips]
    return Ways(tuple(body.points[p] for p in kept), tuple(body.depth[p] for p in kept), pruned)


def _ways_to_tree(middle: sparse.csr_matrix, upstream: dict[int, int]) -> np.ndarray:
    """For each voxel the next one on its way to the tree so far; negative on the tree."""
    return csgraph.dijkstra(middle, indices=list(upstream), return_predecessors=True, min_only=True)[1]


def _back(before: np.ndarray, tip: int) -> np.ndarray:
    """Voxels from the tree to `tip`."""
    path = [tip]
    while before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    return np.array(path[::-1])


def _up(upstream: dict[int, int], tip: int) -> np.ndarray:
    """Voxels from the root to `tip`, along the tree."""
    path = [tip]
    while upstream[path[-1]] >= 0:
        path.append(upstream[path[-1]])
    return np.array(path[::-1])


def half_widths(body: Body, far: np.ndarray) -> np.ndarray:
    """Half the width (n,) mm of the tube's section at each voxel: the distance to the wall, where that is round.

    far: distance from one end along the tube (n,) mm; near that end the sections are not yet whole. Sections are the
    pieces at equal such distance; one of the area A that is `depth` deep reaches A / (pi depth) to its rims, but is not
    taken for wider than FLATTEST times its depth.
    """
    thick = 3 * float(np.median(body.lengths))
    level = np.floor(far / thick)
    i, j = body.links.T
    same = level[i] == level[j]
    n = len(far)
    piece = csgraph.connected_components(sparse.csr_matrix((np.ones(same.sum()), (i[same], j[same])), shape=(n, n)),
                                         directed=False)[1]
    area = np.bincount(piece) * body.voxel / thick
    deepest = np.zeros(len(area))
    np.maximum.at(deepest, piece, body.depth)
    deepest = np.maximum(deepest, body.voxel ** (1 / 3) / 2)
    flat = np.clip(area / (np.pi * deepest**2), 1.0, FLATTEST)
    flat = np.where(flat < ROUND, 1.0, flat)
    return body.depth * flat[piece]


def _steady(reach: np.ndarray, depth: np.ndarray, over: float) -> np.ndarray:
    """`reach` along a path with the median flatness over so many voxels: a section that holds a branch too is short."""
    size = 2 * int(over / 2) + 1
    return depth * ndimage.median_filter(reach / np.maximum(depth, 1e-9), size, mode="nearest")


def _is_branch(body: Body, reach: np.ndarray, joint: int, new: np.ndarray, pruning: Pruning) -> bool:
    if len(new) < 2:
        return False
    length = np.linalg.norm(np.diff(body.points[new], axis=0), axis=1).sum()
    outside = np.linalg.norm(body.points[new] - body.points[joint], axis=1) > reach[joint]
    if not outside.any():
        return False
    radius = np.median(body.depth[new][outside])
    return bool(length >= max(pruning.parent_radii * reach[joint], pruning.smallest_length)
                and radius >= pruning.smallest_radius)


def end_radius(points: np.ndarray, radius: np.ndarray) -> float:
    """Typical radius of the tube near the last point: the median from one to four radii before it."""
    back = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points[::-1], axis=0), axis=1))]
    r = radius[::-1]
    scale = r[back <= max(back[-1] * 0.25, 10.0)].max()
    here = (back >= 1.0 * scale) & (back <= 4.0 * scale)
    return float(np.median(r[here])) if here.any() else float(np.median(r))


def ways(body: Body, pruning: Pruning = Pruning(), superior_first: bool = False) -> Ways:
    """Ways from the inlet, which is the widest end.

    superior_first: among ends nearly as wide as the widest (three quarters),
    the one nearest the head (+z) is the inlet; only for trustworthy axes.
    """
    start = int(body.depth.argmax())
    first = int(csgraph.dijkstra(body.by_length, indices=start).argmax())
    rough = ways_from(body, first, pruning)
    ends = [rough.points[0][0]] + [p[-1] for p in rough.points]
    radii = [end_radius(rough.points[0][::-1], rough.radius[0][::-1])]
    radii += [end_radius(p, r) for p, r in zip(rough.points, rough.radius, strict=True)]
    wide = [i for i, r in enumerate(radii) if r >= 0.75 * max(radii)]
    inlet = max(wide, key=lambda i: ends[i][2]) if superior_first else int(np.argmax(radii))
    if inlet == 0:
        return rough
    return ways_from(body, int(np.linalg.norm(body.points - ends[inlet], axis=1).argmin()), pruning)
