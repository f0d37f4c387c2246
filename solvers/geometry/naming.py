"""Names of arterial branches, from the shape of the tree.

Sides are told only where the image's axes are the patient's (LPS: left is +x);
elsewhere a pair is called `_a` (the one listed first) and `_b`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from solvers.geometry.centrelines import Tree

PAIR = 0.62
"""Two children are a pair when the thinner has at least this part of the thicker one's radius."""
SPLIT = 0.88
"""The parent ends in a pair when the thicker child has at most this part of its radius."""
SAME_LEVEL = 35.0
"""Renal arteries leave the aorta within this length of it, mm."""


@dataclass(frozen=True)
class Named:
    """The tree with names; how sure the sides are, and whether the aortic bifurcation was found."""

    tree: Tree
    side_verified: bool
    has_bifurcation: bool


def solve(tree: Tree, root_name: str = "abdominal_aorta", anatomical: bool = False) -> Named:
    """Names by recipe (`root_name`) and geometry; branches that cannot be told are `side_branch_<n>`."""
    names: dict[int, str] = {}
    trunk, pair = _trunk(tree)
    names.update(dict.fromkeys(trunk, root_name))
    if root_name == "abdominal_aorta":
        side = _sides(tree, pair, anatomical)
        for child in pair:
            _name_limb(tree, child, side, pair, anatomical, names)
        _name_renals(tree, trunk, anatomical, names)
    _name_rest(tree, names)
    branches = tuple(b.but(name=names[i]) for i, b in enumerate(tree.branches))
    return Named(Tree(branches), anatomical, len(pair) == 2)


def typical_radius(tree: Tree, index: int) -> float:
    """Median area-equivalent radius, mm; of the inscribed sphere where no section could be cut."""
    branch = tree.branches[index]
    known = np.isfinite(branch.area)
    if known.sum() >= 3:
        return float(np.sqrt(np.median(branch.area[known]) / np.pi))
    return float(np.median(branch.radius[len(branch.radius) // 2:]))


def _trunk(tree: Tree) -> tuple[list[int], list[int]]:
    """Stretches of the trunk from the root, and the pair in which it ends (or nothing)."""
    trunk, here = [tree.root], tree.root
    widest = typical_radius(tree, here)
    while children := sorted(tree.children(here), key=lambda i: -typical_radius(tree, i)):
        radii = [typical_radius(tree, i) for i in children]
        if len(children) > 1 and radii[1] >= PAIR * radii[0] and radii[0] <= SPLIT * widest:
            return trunk, children[:2]
        here = children[0]
        trunk.append(here)
        widest = max(typical_radius(tree, here), 0.5 * widest)
    return trunk, []


def _below(tree: Tree, index: int) -> list[int]:
    """A branch and all that come from it."""
    return [index] + [j for i in tree.children(index) for j in _below(tree, i)]


def _centre(tree: Tree, index: int) -> np.ndarray:
    return np.vstack([tree.branches[i].points for i in _below(tree, index)]).mean(axis=0)


def _way(tree: Tree, index: int, length: float = 25.0) -> np.ndarray:
    """Unit vector from a branch's start to the place `length` mm along it."""
    branch = tree.branches[index]
    k = min(int(np.searchsorted(branch.abscissa, length)), len(branch.points) - 1)
    way = branch.points[k] - branch.points[0]
    return way / max(float(np.linalg.norm(way)), 1e-9)


def _sides(tree: Tree, pair: list[int], anatomical: bool) -> Callable[[int], str]:
    """Which suffix a limb of the bifurcation gets."""
    if len(pair) < 2:
        return lambda _: ""
    if anatomical:
        left = max(pair, key=lambda i: _centre(tree, i)[0])
        return lambda i: "_left" if i == left else "_right"
    return lambda i: "_a" if i == pair[0] else "_b"


def _name_limb(tree: Tree, limb: int, side: Callable[[int], str], pair: list[int], anatomical: bool,
               names: dict[int, str]) -> None:
    """Common iliac artery, then the external and internal ones."""
    suffix, here = side(limb), limb
    names[here] = f"iliac_artery{suffix}"
    while children := sorted(tree.children(here), key=lambda i: -typical_radius(tree, i)):
        radii = [typical_radius(tree, i) for i in children]
        length = sum(tree.branches[i].length for i in tree.path(here) if names.get(i) == f"iliac_artery{suffix}")
        if radii[1] >= 0.45 * radii[0] and length > 15:
            across = _centre(tree, limb) - _centre(tree, next(i for i in pair if i != limb))
            external = max(children[:2], key=lambda i: _external_votes(tree, i, children[:2], here, across, anatomical))
            internal = next(i for i in children[:2] if i != external)
            names.update(dict.fromkeys(_main_line(tree, external), f"external_iliac_artery{suffix}"))
            names.update(dict.fromkeys(_main_line(tree, internal), f"internal_iliac_artery{suffix}"))
            return
        here = children[0]
        names[here] = f"iliac_artery{suffix}"


def _main_line(tree: Tree, index: int) -> list[int]:
    """A branch and its thickest continuations."""
    line = [index]
    while children := tree.children(line[-1]):
        line.append(max(children, key=lambda i: typical_radius(tree, i)))
    return line


def _external_votes(tree: Tree, child: int, both: list[int], parent: int, across: np.ndarray,
                    anatomical: bool) -> float:
    """The external iliac artery is wider, straighter on, more lateral and (where told) more anterior."""
    other = next(i for i in both if i != child)
    on = -_way_back(tree, parent)
    votes = float(typical_radius(tree, child) > typical_radius(tree, other))
    votes += float(_way(tree, child) @ on > _way(tree, other) @ on)
    votes += float(_way(tree, child, 40) @ across > _way(tree, other, 40) @ across)
    return votes + (2.0 * float(_way(tree, child, 40)[1] < _way(tree, other, 40)[1]) if anatomical else 0.0)


def _way_back(tree: Tree, index: int) -> np.ndarray:
    """Unit vector from a branch's end to the place 20 mm before it."""
    branch = tree.branches[index]
    k = int(np.searchsorted(branch.abscissa, branch.length - 20.0))
    way = branch.points[min(k, len(branch.points) - 2)] - branch.points[-1]
    return way / np.linalg.norm(way)


def _name_renals(tree: Tree, trunk: list[int], anatomical: bool, names: dict[int, str]) -> None:
    """The pair of opposite lateral branches at about one level of the aorta."""
    level = np.cumsum([tree.branches[i].length for i in trunk])
    laterals = [(c, float(level[n])) for n, i in enumerate(trunk) for c in tree.children(i)
                if c not in names and typical_radius(tree, c) < 0.6 * typical_radius(tree, trunk[0])]
    if anatomical:
        laterals = [(c, at) for c, at in laterals if abs(_outward(tree, c)[0]) > abs(_outward(tree, c)[1])]
    pairs = [(typical_radius(tree, a) + typical_radius(tree, b), a, b) for n, (a, at) in enumerate(laterals)
             for b, bt in laterals[n + 1:] if abs(at - bt) <= SAME_LEVEL and _opposite(tree, trunk, a, b)]
    chosen = list(max(pairs)[1:]) if pairs else [c for c, _ in laterals] if anatomical and len(laterals) == 1 else []
    for n, child in enumerate(chosen):
        suffix = ("_left" if _outward(tree, child)[0] > 0 else "_right") if anatomical else ("_a", "_b")[n]
        names.update(dict.fromkeys(_main_line(tree, child), f"renal_artery{suffix}"))


def _outward(tree: Tree, child: int) -> np.ndarray:
    """Where a side branch is bound for; its first part may still run around the trunk."""
    return _way(tree, child, 45.0)


def _opposite(tree: Tree, trunk: list[int], a: int, b: int) -> bool:
    """Two branches leave to opposite sides of the trunk."""
    points = np.vstack([tree.branches[i].points for i in trunk])
    down = points[-1] - points[0]
    down = down / np.linalg.norm(down)
    ways = [w - (w @ down) * down for w in (_outward(tree, a), _outward(tree, b))]
    return bool(ways[0] @ ways[1] < -0.3 * np.linalg.norm(ways[0]) * np.linalg.norm(ways[1]))


def _name_rest(tree: Tree, names: dict[int, str]) -> None:
    """Anything else is a numbered side branch; its continuations share the name."""
    number = 0
    for i in range(len(tree.branches)):
        if i not in names:
            number += 1
            names.update({j: f"side_branch_{number}" for j in _main_line(tree, i) if j not in names})
