"""Clearance by an organ through which blood flows: the well-stirred model.

Source: Rowland, Benet & Graham 1973, doi:10.1007/BF01059626.
"""

from solvers.errors import BadInput

SOURCES = ["Rowland, Benet & Graham 1973 (well-stirred organ), doi:10.1007/BF01059626"]


def clearance(flow: float, intrinsic: float) -> float:
    """Blood cleared per second, m^3/s, by an organ of `intrinsic` clearance (of blood, binding included)."""
    return flow * extraction(flow, intrinsic)


def extraction(flow: float, intrinsic: float) -> float:
    """Share of the drug that is lost in one passage, 0 to 1."""
    return intrinsic / (flow + intrinsic)


def intrinsic(flow: float, wanted: float) -> float:
    """The intrinsic clearance of blood, m^3/s, with which an organ clears `wanted` at `flow`.

    Raises BadInput `clearance_exceeds_flow`: no organ clears more blood than it gets.
    """
    if wanted >= flow:
        raise BadInput("clearance_exceeds_flow", f"a clearance of {wanted * 6e4:.2f} L/min of blood is more than the "
                       f"organ's {flow * 6e4:.2f} L/min", "less than the organ's flow",
                       "Check the drug's clearance and blood-to-plasma ratio.")
    return flow * wanted / (flow - wanted)
