"""Outlets lie where the image still resolves the vessel; a stenosis stays in it."""

import numpy as np
import pytest
from vessel_trees import fork, straight

from solvers.geometry import resolved_ends

LEAST = 2.0


def dip(at, width, depth=2.3):
    """A radius of 3 mm, narrowed by `depth` mm over `width` mm round an abscissa."""
    return lambda s: 3 - depth * np.exp(-((s - at) / width) ** 2)


def test_a_vessel_that_fades_ends_where_it_was_last_resolved():
    tree = straight(lambda s: np.interp(s, [0, 60, 100], [3, 3, 0.5]))
    after, given_up = resolved_ends.solve(tree, LEAST)
    assert after.branches[0].length == pytest.approx(92, abs=0.6)
    assert given_up == pytest.approx(8, abs=0.6)
    assert 2 * after.branches[0].radius.min() >= LEAST
    assert len(after.branches[0].area) == len(after.branches[0].points)


@pytest.mark.parametrize(("at", "stays"), [(50, True), (65, True), (75, False), (95, False)])
def test_a_narrowing_is_a_stenosis_when_the_vessel_is_wide_again_behind_it(at, stays):
    tree = straight(dip(at, 4.0))
    after, given_up = resolved_ends.solve(tree, LEAST)
    assert (given_up == 0) == stays
    if not stays:
        assert after.branches[0].length < at


def test_a_resolved_tree_is_the_same_tree():
    tree = fork()
    assert resolved_ends.solve(tree, LEAST) == (tree, 0)


def test_only_outlets_move_and_some_of_each_branch_stays():
    tree = fork(parent=6.0, first=0.7, second=4.0)
    after, given_up = resolved_ends.solve(tree, LEAST)
    assert [b.length for b in after.branches[::2]] == [b.length for b in tree.branches[::2]]
    assert after.branches[1].length == pytest.approx(6 + 2.0, abs=1)
    assert given_up == pytest.approx(tree.branches[1].length - after.branches[1].length)
