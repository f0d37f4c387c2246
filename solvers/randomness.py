"""Keyed chance: the same name draws the same numbers, whatever else is drawn."""

import hashlib

import numpy as np


def rng(seed: int, *names: str) -> np.random.Generator:
    """A generator for one purpose, e.g. `rng(7, patient, "adherence")`.

    Arms of a trial that share seed, patient and purpose share their luck.
    """
    digest = hashlib.sha256("\x1f".join([str(seed), *names]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
