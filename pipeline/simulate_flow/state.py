"""Rest or hyperaemia: what the ratio of pressures across a lesion may be called.

A ratio at rest is no fractional flow reserve. FFR proper is the coronary
arteries', and this line of stages does not see them. Under hyperaemia of the
legs it is called `peripheral_ffr`, the name under which it is published, for
lesions all of whose outlets feed dilated beds; any other is a
`hyperaemic_ratio`. The reading 10 to 20 mm behind the lesion and the grey zone
0.76 to 0.80 are recommendations for coronary FFR from CT; for legs no cut-off
is agreed, so the zone is named and nothing is judged by it.

Sources: Norgaard et al. 2019, doi:10.1148/ryct.2019190050 (place of reading, grey zone); Khan et al. 2025,
doi:10.3390/jcdd12020077 (peripheral FFR, no agreed cut-off).
"""

from typing import Literal

from pipeline.simulate_flow.outside import Outside
from solvers.flow.network import Results
from solvers.geometry.centrelines import Lesion, Tree

SOURCES = ["Norgaard et al. 2019 (reading and grey zone of FFR from CT), doi:10.1148/ryct.2019190050",
           "Khan et al. 2025 (peripheral FFR), doi:10.3390/jcdd12020077"]

Ratio = Literal["distal_to_proximal_ratio", "peripheral_ffr", "hyperaemic_ratio"]
BEHIND = (10.0, 20.0)
"""mm behind a lesion."""


def ratio_of(tree: Tree, around: Outside, lesion: Lesion) -> Ratio:
    """Name of the ratio across a lesion in this state."""
    if around.state == "rest":
        return "distal_to_proximal_ratio"
    fed = {i for i in tree.leaves if lesion.branch in tree.path(i)}
    return "peripheral_ffr" if fed <= set(around.dilated) else "hyperaemic_ratio"


def named(tree: Tree, around: Outside, lesions: tuple[Lesion, ...], numbers: Results) -> Results:
    """A model's numbers with the ratio of each lesion under its name."""
    names = {x.id: ratio_of(tree, around, x) for x in lesions}
    return numbers | {"lesions": {i: {names[i] if k == "distal_to_proximal_ratio" else k: v for k, v in m.items()}
                                  for i, m in numbers["lesions"].items()}}
