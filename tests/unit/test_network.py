"""From centrelines to a circuit, and to clinical numbers, against formulas."""

from dataclasses import replace

import numpy as np
import pytest
from pytest import approx
from vessel_trees import EDGE, aorta_with_lesion, branch, fork, lesion, straight

from solvers.errors import BadInput
from solvers.flow import circuit, lesion_flow, network
from solvers.flow.pulse import Pulse
from solvers.flow.windkessel import Windkessel
from solvers.geometry.centrelines import Tree
from solvers.units import MMHG


class Blood:
    density = 1060.0
    viscosity = 0.0035


BED = Windkessel(1e8, 1.4e9, 7e-10, 500.0)
RHO, MU = Blood.density, Blood.viscosity


def beat(mean=1e-5, swing=0.8):
    return Pulse(0.8, mean * (1 + swing * np.cos(2 * np.pi * np.arange(40) / 40)))


def drop(tree, lesions=(), which="area", flow=1e-5):
    """Pa from the inlet to the first outlet under a steady flow (m^3/s)."""
    made = network.build(tree, Blood, lesions, which)
    pressure, _ = circuit.steady(made.circuit, flow)
    return pressure[made.circuit.inlet] - pressure[next(iter(made.leaves.values()))]


def test_a_straight_tube_obeys_poiseuille():
    made = network.build(straight(3.0), Blood, ())
    assert sum(s.resistance for s in made.circuit.segments) == approx(8 * MU * 0.1 / (np.pi * 0.003**4), rel=1e-6)
    assert sum(s.inertance for s in made.circuit.segments) == approx(RHO * 0.1 / (np.pi * 0.003**2), rel=1e-6)
    assert drop(straight(3.0)) == approx(8 * MU * 0.1 * 1e-5 / (np.pi * 0.003**4), rel=1e-6)


def test_a_cone_obeys_poiseuille_along_itself():
    a, b, length = 0.005, 0.003, 0.1
    cone = straight(lambda s: 5.0 - 2.0 * s / 100)
    exact = 8 * MU * length / (3 * np.pi) * (a * a + a * b + b * b) / (a * b) ** 3
    assert drop(cone) == approx(exact * 1e-5, rel=1e-3)
    inertance = sum(s.inertance for s in network.build(cone, Blood, ()).circuit.segments)
    assert inertance == approx(RHO * length / (np.pi * a * b), rel=1e-3)


def test_a_gap_in_the_measured_areas_is_filled_and_told():
    tube = straight(3.0)
    area = tube.branches[0].area.copy()
    area[60:100] = np.nan
    gappy = Tree((tube.branches[0].but(area=area, radius=0.5 * tube.branches[0].radius),))
    assert drop(gappy) == approx(drop(tube), rel=1e-9)
    assert network.build(gappy, Blood, ()).filled["abdominal_aorta"] == approx(20.0)
    nothing = Tree((tube.branches[0].but(area=np.full_like(area, np.nan)),))
    assert drop(nothing) == approx(drop(tube), rel=1e-9)  # the inscribed sphere is all that is known


def test_a_fork_shares_by_resistance():
    made = network.build(fork(first=4.0, second=3.0), Blood, (), outlets={1: BED, 2: BED})
    _, flow = circuit.steady(made.circuit, 1e-5)
    limbs = [8 * MU * 0.05 / (np.pi * (r * 1e-3) ** 4) + BED.resistance for r in (4.0, 3.0)]
    assert flow[-2] / flow[-1] == approx(limbs[1] / limbs[0], rel=1e-6)


def test_a_branch_that_leaves_midway_feels_the_pressure_there():
    trunk = straight(3.0).branches[0]
    side = branch([[0, 0, -40.0], [10, 0, -40], [20, 0, -40]], 2.0, 0, "renal_artery_left")
    end = branch([[0, 0, -100.0], [0, 0, -110], [0, 0, -120]], 3.0, 0, "iliac_artery_left")
    blocked = Windkessel(0.0, 1e16, 0.0)
    made = network.build(Tree((trunk, side, end)), Blood, (), outlets={1: blocked, 2: Windkessel(0, 1e6, 0)})
    pressure, _ = circuit.steady(made.circuit, 1e-5)
    down = pressure[made.circuit.inlet] - pressure[made.leaves[1]]
    assert down == approx(8 * MU * 0.04 * 1e-5 / (np.pi * 0.003**4), rel=1e-3)


def blunt(percent, length=10.0, radius=3.0):
    """A tube of 100 mm with a throat of even width over `length` in its middle, and the lesion there."""
    tube = straight(lambda s: np.where(np.abs(s - 50) <= length / 2, radius * (1 - percent / 100), radius), step=0.01)
    return tube, lesion(tube, 0, 50 - length / 2, 50 + length / 2, 2 * radius)


def smooth(percent, at=50.0, length=12.0, radius=3.0):
    """A tube of 100 mm with a cosine narrowing, and the lesion there."""
    tube = straight(lambda s: radius * (1 - percent / 100 * np.where(
        np.abs(s - at) < length / 2, 0.5 + 0.5 * np.cos(2 * np.pi * (s - at) / length), 0.0)), step=0.1)
    return tube, lesion(tube, 0, at - length / 2, at + length / 2, 2 * radius)


@pytest.mark.parametrize("percent", [30, 50, 70])
def test_a_lesion_loses_what_flow_through_its_shape_loses(percent):
    """Between its stations, 38 and 68 mm along; Poiseuille's loss before and behind them."""
    tube, found = smooth(percent)
    q = 1000 * np.pi / 2 * found.minimal_diameter / 2e3 * MU / RHO
    s = tube.branches[0].abscissa
    inside = (s > 38 - 1e-6) & (s < 68 + 1e-6)
    alone = lesion_flow.march(s[inside] * 1e-3, np.sqrt(tube.branches[0].area[inside] / np.pi) * 1e-3, q, Blood).drop
    outside = 8 * MU * 0.07 * q / (np.pi * 0.003**4)
    assert drop(tube, [found], flow=q) == approx(alone + outside, rel=0.05)


def test_flow_behind_a_lesion_is_followed_to_the_next_one():
    """Alone, 12 mm behind; with another 3 mm behind it, so far."""
    tube, found = smooth(50)
    other = replace(found, id="L2", start=59.0, end=65.0, abscissa=62.0)
    alone, together = (network.stenosis_of(tube, found, Blood, lesions=x) for x in ([found], [found, other]))
    q = 1000 * np.pi / 2 * 0.003 * MU / RHO
    assert together.linear * q + together.quadratic * q**2 > 1.02 * (alone.linear * q + alone.quadratic * q**2)


def test_a_stenosis_resists_as_much_backward():
    tube, found = blunt(50)
    made = network.build(tube, Blood, [found], outlets={0: Windkessel(0, 1e8, 0, 0.0)})
    periodic = circuit.solve(made.circuit, beat(swing=3.0))
    pressure, q = periodic.at(made.circuit.inlet) - periodic.at(made.leaves[0]), periodic.inflow
    forward, backward = int(q.argmax()), int(q.argmin())
    assert pressure[forward] > 0 > pressure[backward]
    loss, outside = made.losses["L1"], 8 * MU * 0.09 / (np.pi * 0.003**4)
    inertia = sum(s.inertance for s in made.circuit.segments)
    rate = np.gradient(q, periodic.times)
    exact = (loss.linear + outside) * q + loss.quadratic * np.abs(q) * q + inertia * rate
    assert pressure[5:-5] == approx(exact[5:-5], abs=2e-3 * np.ptp(exact))


def test_a_lesion_that_narrows_nothing_is_plain_tube():
    tube = straight(3.0)
    treated = replace(lesion(tube, 0, 40.0, 60.0, 6.0), minimal_diameter=2.0, percent_diameter_stenosis=66.0)
    assert drop(tube, [treated]) == approx(drop(tube), rel=1e-6)


def test_stations_lie_one_diameter_before_and_two_behind():
    tube, found = blunt(50)
    at = network.stations(tube, found)
    assert (at.proximal_abscissa, at.distal_abscissa) == approx((45 - 6.0, 55 + 12.0))
    near_end = replace(found, end=95.0)
    assert network.stations(tube, near_end).distal_abscissa == approx(100.0)


def test_contours_bound_the_drop():
    tree, lesions = aorta_with_lesion()
    beds = dict.fromkeys(tree.leaves, BED)
    solved = network.on_contours(tree, Blood, lesions, beds, beat(3e-5))
    found = {name: network.results(*pair) for name, pair in solved.items()}
    drops = {name: r["lesions"]["L1"]["pressure_drop"]["mean"] for name, r in found.items()}
    assert drops["inner"] > drops["nominal"] > drops["outer"] > 0
    one = network.build(tree, Blood, lesions, outlets=beds)
    assert found["nominal"] == network.results(one, circuit.solve(one.circuit, beat(3e-5)))
    shear = {name: r["regions"]["renal_artery_left"]["tawss"]["mean"] for name, r in found.items()}
    assert shear["inner"] > shear["nominal"] > shear["outer"]


@pytest.mark.parametrize(("which", "moved"), [("area_inner", -EDGE), ("area_outer", EDGE)])
def test_a_contour_moves_the_whole_shape(which, moved):
    tube, found = smooth(50)
    got = network.stenosis_of(tube, found, Blood, which)
    r = np.sqrt(tube.branches[0].area / np.pi) + moved
    same = network.stenosis_of(Tree((tube.branches[0].but(area=np.pi * r**2),)), found, Blood)
    nominal = network.stenosis_of(tube, found, Blood)
    assert (got.linear, got.quadratic) == approx((same.linear, same.quadratic), rel=1e-6)
    assert np.sign(nominal.quadratic - got.quadratic) == np.sign(moved)


def test_the_inner_contour_of_a_tube_is_a_narrower_tube():
    assert drop(straight(3.0), which="area_inner") == approx(drop(straight(3.0 - EDGE)), rel=1e-9)


def test_results_of_a_stenosed_tube():
    tube, found = blunt(60)
    made = network.build(tube, Blood, [found], outlets={0: BED})
    periodic = circuit.solve(made.circuit, beat())
    got = network.results(made, periodic)
    ends = {name: p for name, (p, _) in network.curves(made, periodic).items()}
    difference = (ends["L1_proximal"] - ends["L1_distal"]) / MMHG
    assert got["lesions"]["L1"]["pressure_drop"] == approx({"mean": difference.mean(), "peak": difference.max()})
    assert difference.max() > 1.5 * difference.mean() > 0
    ratio = ends["L1_distal"].mean() / ends["inlet"].mean()
    assert got["lesions"]["L1"]["distal_to_proximal_ratio"]["mean"] == approx(ratio) and ratio < 1


def test_shear_of_a_tube_is_poiseuilles_also_where_flow_turns_back():
    made = network.build(straight(3.0), Blood, (), outlets={0: BED})
    pulse = beat(swing=2.0)
    got = network.results(made, circuit.solve(made.circuit, pulse))["regions"]["abdominal_aorta"]
    speed = np.abs(pulse.at(450)).mean()
    assert speed > 1.1 * pulse.mean
    assert got["tawss"]["mean"] == approx(4 * MU * speed / (np.pi * 0.003**3), rel=1e-3)
    middle = 500 + 1e-5 * (BED.resistance + 8 * MU * 0.05 / (np.pi * 0.003**4))
    assert got["pressure"]["mean"] == approx(middle / MMHG, rel=1e-4)
    whole = 1e-5 * 8 * MU * 0.1 / (np.pi * 0.003**4)
    assert got["pressure_drop_to_outlet"]["mean"] == approx(whole / MMHG, rel=1e-4)


def test_the_drop_to_outlets_is_that_to_a_names_own():
    """The mean over outlets of one name; none for a branch that goes on."""
    tree, lesions = aorta_with_lesion()
    made = network.build(tree, Blood, lesions, outlets=dict.fromkeys(tree.leaves, BED))
    beaten = circuit.solve(made.circuit, beat(3e-5))
    got = network.results(made, beaten)["regions"]
    inlet = beaten.at(made.circuit.inlet).mean()
    for name in {tree.branches[i].name for i in tree.leaves}:
        own = [beaten.at(made.leaves[i]).mean() for i in tree.leaves if tree.branches[i].name == name]
        assert got[name]["pressure_drop_to_outlet"]["mean"] == approx((inlet - np.mean(own)) / MMHG)
    assert "pressure_drop_to_outlet" not in got["abdominal_aorta"]


def test_curves_have_a_name_for_each_end_and_keep_the_volume():
    tree, lesions = aorta_with_lesion()
    made = network.build(tree, Blood, lesions, outlets=dict.fromkeys(tree.leaves, BED))
    got = network.curves(made, circuit.solve(made.circuit, beat(3e-5)))
    ends = set(network.outlet_names(tree).values())
    assert set(got) == {"inlet", "L1_proximal", "L1_distal"} | ends and len(ends) == len(tree.leaves)
    assert sum(got[n][1] for n in ends) == approx(got["inlet"][1], abs=1e-9 * 3e-5)
    below = got["external_iliac_artery_left"][1] + got["internal_iliac_artery_left"][1]
    assert got["L1_proximal"][1] == approx(below, abs=1e-9 * 3e-5)


def test_the_frame_does_not_matter():
    tree, lesions = aorta_with_lesion()
    c, s = np.cos(0.7), np.sin(0.7)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    turned = Tree(tuple(b.but(points=b.points @ turn.T + [10, 20, 30]) for b in tree.branches))
    assert drop(turned, lesions) == approx(drop(tree, lesions), rel=1e-6)


def test_outlets_that_share_a_name_get_a_number():
    tree = fork()
    same = Tree(tuple(b.but(name="side_branch_1") if b.parent == 0 else b for b in tree.branches))
    assert network.outlet_names(same) == {1: "side_branch_1_1", 2: "side_branch_1_2"}


def test_outlets_for_other_branches_are_refused():
    with pytest.raises(BadInput) as caught:
        network.build(fork(), Blood, (), outlets={0: BED})
    assert caught.value.code == "outlets_differ"


def test_a_closed_lumen_is_refused():
    tube = straight(3.0)
    area = tube.branches[0].area.copy()
    area[50] = 0.0
    with pytest.raises(BadInput) as caught:
        network.build(Tree((tube.branches[0].but(area=area),)), Blood, ())
    assert caught.value.code == "lumen_closed"
