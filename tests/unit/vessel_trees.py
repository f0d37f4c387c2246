"""Vessel trees with known radii, for the tests of flow in networks; mm."""

import numpy as np
from vessel_shapes import aorta_tubes, line

from solvers.geometry.centrelines import Branch, Lesion, Tree

PARENTS = {"abdominal_aorta": None, "renal_artery_left": "abdominal_aorta", "renal_artery_right": "abdominal_aorta",
           "iliac_artery_left": "abdominal_aorta", "iliac_artery_right": "abdominal_aorta",
           "external_iliac_artery_left": "iliac_artery_left", "internal_iliac_artery_left": "iliac_artery_left",
           "external_iliac_artery_right": "iliac_artery_right", "internal_iliac_artery_right": "iliac_artery_right"}
EDGE = 0.2
"""One standard deviation of the lumen's edge, mm of radius."""


def branch(points, radius, parent=-1, name="abdominal_aorta"):
    """A branch with round sections; its inner and outer contour lie EDGE inside and outside."""
    points = np.asarray(points, float)
    r = np.broadcast_to(np.asarray(radius, float), len(points)).copy()
    return Branch(points, r, np.pi * r**2, np.pi * (r - EDGE) ** 2, np.pi * (r + EDGE) ** 2, parent, name)


def straight(radius, length=100.0, step=0.5, name="abdominal_aorta"):
    """A straight tube along -z; radius: mm, a number or a function of the abscissa."""
    points = line([0, 0, 0], [0, 0, -length], step)
    s = np.linspace(0, length, len(points))
    return Tree((branch(points, radius(s) if callable(radius) else radius, name=name),))


def fork(parent=6.0, first=4.0, second=4.0, length=50.0):
    """A tube that ends in two."""
    end = np.array([0, 0, -length])
    trunk = branch(line([0, 0, 0], end, 0.5), parent)
    limbs = [branch(line(end, end + length * np.array([x, 0, -1]) / np.sqrt(2), 0.5), r, 0, f"iliac_artery_{side}")
             for x, r, side in ((1, first, "left"), (-1, second, "right"))]
    return Tree((trunk, *limbs))


def aorta(stenosis=60.0):
    """Aorta, renal and iliac arteries; the left iliac artery is narrowed in its middle."""
    tubes = aorta_tubes(stenosis)
    names = list(PARENTS)
    return Tree(tuple(branch(tubes[n][0][::5], tubes[n][1][::5], names.index(p) if p else -1, n)
                      for n, p in PARENTS.items()))


def lesion(tree, index, start, end, reference_diameter):
    """A lesion between two abscissae of a branch, its least area read from there."""
    b = tree.branches[index]
    inside = (b.abscissa >= start) & (b.abscissa <= end)
    k = int(np.flatnonzero(inside)[b.area[inside].argmin()])
    diameter = float(np.sqrt(4 * b.area[k] / np.pi))
    return Lesion("L1", index, b.name, float(b.abscissa[k]), start, end, end - start, float(b.area[k]),
                  float(b.area_inner[k]), float(b.area_outer[k]), diameter, reference_diameter,
                  100 * (1 - diameter / reference_diameter))


def aorta_with_lesion(stenosis=60.0):
    """The aorta and its lesion: 16 mm long, reference diameter 9.6 mm."""
    tree = aorta(stenosis)
    index = list(PARENTS).index("iliac_artery_left")
    return tree, [lesion(tree, index, 19.0, 35.0, 9.6)]
