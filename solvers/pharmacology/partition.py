"""How a drug spreads between plasma and tissue at equilibrium, from what the tissue is made of.

Source: Rodgers, Leahy & Rowland 2005 (strong bases), doi:10.1002/jps.20322;
Rodgers & Rowland 2006 (acids, neutrals, weak bases), doi:10.1002/jps.20502.
"""

from solvers.library import body
from solvers.library.drugs import Drug

SOURCES = ["Rodgers, Leahy & Rowland 2005 (tissue levels of bases), doi:10.1002/jps.20322",
           "Rodgers & Rowland 2006 (tissue levels of acids and neutrals), doi:10.1002/jps.20502"]
STRONG_BASE = 7.0
"""Bases of at least this pKa bind to acidic phospholipids."""


def tissue_to_plasma(drug: Drug, tissue: str) -> float:
    """Concentration in `tissue` over that in plasma (both total) at equilibrium.

    Strong bases bind to acidic phospholipids with the affinity that their
    blood-to-plasma ratio shows; acids and weak bases bind to albumin of the
    tissue's fluid, neutral drugs to its lipoprotein.
    Neutral lipid is octanol-like except in adipose tissue, where it is oil.
    """
    made_of, cells = body.composition(tissue), body.table()["cells"]
    plasma, inside = _ionised(drug, cells["plasma"]["ph"]), _ionised(drug, cells["tissue"]["ph"])
    p = 10 ** (1.115 * drug.log_p - 1.35) if tissue == "adipose" else 10**drug.log_p
    unbound = made_of.extracellular_water + (1 + inside) / (1 + plasma) * made_of.intracellular_water
    unbound += _lipid(p, made_of.neutral_lipid, made_of.neutral_phospholipid) / (1 + plasma)
    if _is_strong_base(drug):
        unbound += _phospholipid_affinity(drug) * made_of.acidic_phospholipid * inside / (1 + plasma)
    else:
        free = cells["plasma"]
        bound = 1 / drug.fraction_unbound - 1 - _lipid(10**drug.log_p, free["neutral_lipid"],
                                                       free["neutral_phospholipid"]) / (1 + plasma)
        unbound += max(0.0, bound) * (made_of.lipoprotein_ratio if drug.kind == "neutral" else made_of.albumin_ratio)
    return unbound * drug.fraction_unbound


def _lipid(p: float, neutral: float, phospholipid: float) -> float:
    """Held by neutral lipid and neutral phospholipid, over the un-ionised drug in water."""
    return p * neutral + (0.3 * p + 0.7) * phospholipid


def _ionised(drug: Drug, ph: float) -> float:
    """Ionised over un-ionised drug at `ph`."""
    if drug.kind == "neutral":
        return 0.0
    return 10 ** (drug.pka - ph) if drug.kind == "base" else 10 ** (ph - drug.pka)


def _is_strong_base(drug: Drug) -> bool:
    return drug.kind == "base" and drug.pka >= STRONG_BASE


def _phospholipid_affinity(drug: Drug) -> float:
    """Affinity for acidic phospholipid, g/mg, from the red cells' share of blood; at least zero."""
    cell, haematocrit = body.table()["cells"]["red_cell"], body.number("blood", "haematocrit")
    plasma, inside = _ionised(drug, body.table()["cells"]["plasma"]["ph"]), _ionised(drug, cell["ph"])
    cells_to_free = (drug.blood_to_plasma - (1 - haematocrit)) / (haematocrit * drug.fraction_unbound)
    dissolved = (1 + inside) / (1 + plasma) * cell["intracellular_water"]
    lipid = _lipid(10**drug.log_p, cell["neutral_lipid"], cell["neutral_phospholipid"]) / (1 + plasma)
    return max(0.0, cells_to_free - dissolved - lipid) * (1 + plasma) / (cell["acidic_phospholipid"] * inside)
