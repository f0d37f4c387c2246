"""A CT of a trunk made of ellipsoids, from thighs to neck: body, wall, bones, lungs, heart, organs of the belly.

No method was tuned on it: sizes are those of anatomy books, and places, sizes, contrast and noise differ with the seed.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

NATIVE = {"liver": 56, "spleen": 47, "kidney": 32, "blood": 42, "muscle": 52, "stomach": 30, "gallbladder": 8}
PORTAL = {"liver": 108, "spleen": 122, "kidney": 185, "blood": 150, "muscle": 60, "stomach": 45, "gallbladder": 10}
FAT, MARROW, CORTEX, LUNG, GAS, DISC = -100, 170, 650, -850, -980, 85
BLUR = 1.5
"""Standard deviation of the point spread, mm."""


@dataclass(frozen=True)
class Trunk:
    """values: HU, (x, y, z) to the left, the back and the head; spacing: mm; truth: masks by name."""

    values: np.ndarray
    spacing: np.ndarray
    truth: dict[str, np.ndarray]


def make(seed: int = 1, contrast: bool = True, noise: float = 18.0, z: tuple[float, float] = (-330.0, 330.0),
         spacing: tuple[float, float, float] = (2.5, 2.5, 3.0), without: tuple[str, ...] = ()) -> Trunk:
    """z: the part in the field of view, mm above the lower edge of the first lumbar vertebra."""
    return _Maker(seed, contrast, noise, z, np.array(spacing), without).made()


class _Maker:
    def __init__(self, seed: int, contrast: bool, noise: float, z: tuple[float, float], spacing: np.ndarray,
                 without: tuple[str, ...]) -> None:
        self.rng, self.noise, self.spacing, self.without = np.random.default_rng(seed), noise, spacing, without
        self.hu = {k: v + self.rng.uniform(-5, 5) for k, v in (PORTAL if contrast else NATIVE).items()}
        self.size = self.rng.uniform(0.93, 1.07)
        fat = self.rng.uniform(14, 24)
        self.half = np.array([148 + fat, 104 + fat]) * self.size
        self.fat = fat
        axes = [np.arange(-190, 190, spacing[0]), np.arange(-170, 100, spacing[1]), np.arange(*z, spacing[2])]
        self.axes = [a.astype(np.float32) for a in axes]
        self.x, self.y, self.z = np.meshgrid(*self.axes, indexing="ij", sparse=True)
        self.x, self.y, self.z = self.x / self.size, self.y / self.size, self.z / self.size
        self.image = np.full([len(a) for a in axes], -1000, np.float32)
        self.truth: dict[str, np.ndarray] = {}

    def made(self) -> Trunk:
        self._shell()
        self._chest()
        self._belly()
        self._bones()
        self.truth["fascia"] = np.broadcast_to(self.skin < -self.fat, self.image.shape).copy()
        self.truth["body"] = np.broadcast_to(self.skin < 0, self.image.shape).copy()
        image = ndimage.gaussian_filter(self.image, BLUR / self.spacing)
        image += self.rng.normal(0, self.noise, image.shape).astype(np.float32)
        return Trunk(image, self.spacing, self.truth)

    def lay(self, mask: np.ndarray, value: float, name: str = "") -> None:
        self.image[mask] = value
        for other in self.truth.values():
            other &= ~mask
        if name:
            self.truth[name] = np.broadcast_to(mask, self.image.shape).copy()

    def ball(self, centre: tuple[float, ...], half: tuple[float, ...], shake: float = 0.0) -> np.ndarray:
        """About the distance to an ellipsoid, mm."""
        c = np.array(centre) + self.rng.uniform(-shake, shake, 3)
        h = np.array(half) * self.rng.uniform(1 - 0.015 * shake, 1 + 0.015 * shake, 3)
        square = ((self.x - c[0]) / h[0]) ** 2 + ((self.y - c[1]) / h[1]) ** 2 + ((self.z - c[2]) / h[2]) ** 2
        return (np.sqrt(square) - 1) * float(h.min())

    def _shell(self) -> None:
        """Skin, fat, muscle; `room`: distance into the wall, negative within the room of the organs."""
        flat = (np.sqrt((self.x / (148 + self.fat)) ** 2 + ((self.y + 42) / (104 + self.fat)) ** 2) - 1) * 110
        narrow = np.clip((self.z - 240) / 6, 0, 45)
        self.skin = flat + narrow
        self.room = self.skin + self.fat + 14
        self.lay(self.skin < 0, 20)
        self.lay(self.skin < -3, FAT)
        self.lay(self.skin < -self.fat, self.hu["muscle"])
        self.lay(self.room < 0, FAT)
        for side in (1, -1):
            back = np.hypot((self.x - side * 38) / 38, (self.y - 44) / 24) - 1
            self.lay((back < 0) & (self.skin < -self.fat), self.hu["muscle"])
            psoas = np.hypot((self.x - side * (34 - self.z * 0.12)) / 17, (self.y + 2) / 20) - 1
            self.lay((psoas < 0) & (self.z < 10) & (self.z > -230), self.hu["muscle"])

    def _dome(self) -> np.ndarray:
        """Height of the diaphragm: a dome on either side, low at the wall."""
        r = np.hypot((self.x + 68) / 85, (self.y + 40) / 100)
        left = np.hypot((self.x - 72) / 75, (self.y + 40) / 95)
        return np.maximum(128 - 50 * r**2, 114 - 50 * left**2).clip(min=20)

    def _chest(self) -> None:
        top = self._dome()
        inside = (self.room < -2) & (self.z > top) & (self.z < 285)
        self.lay(inside, FAT)
        middle = np.hypot((self.x - 4) / 34, (self.y + 40) / 75) - 1
        heart = self.ball((28, -72, 158), (62, 48, 54), 4)
        apart = np.minimum(middle * 34, heart - 3)
        both = inside & (apart > 0) & (self.z > top + 3) & (np.hypot(self.x, self.y) > 30)
        taper = np.hypot(self.x / 150, (self.y + 42) / 108) + np.clip((self.z - 180) / 110, 0, 1) ** 2 * 0.5 < 1
        for side, name in ((1, "lung_left"), (-1, "lung_right")):
            self.lay(both & taper & (side * self.x > 0), LUNG, name)
        for _ in range(60):
            c = (self.rng.choice((-1, 1)) * self.rng.uniform(55, 110), self.rng.uniform(-100, 20),
                 self.rng.uniform(130, 240))
            tube = self.ball(c, (3.0, 3.0, 25.0))
            in_lung = (tube < 0) & (self.truth["lung_left"] | self.truth["lung_right"])
            self.image[in_lung] = 30
        self.lay((heart < 0) & (self.z > top - 12), self.hu["blood"], "heart")
        wind = np.maximum(np.hypot(self.x, self.y + 28) - 9, 205 - self.z)
        for side in (1, -1):
            along = np.clip(205 - self.z, 0, 60)
            main = np.hypot(self.x - side * along, self.y + 28) - 6
            wind = np.minimum(wind, np.maximum(main, np.abs(self.z - 180) - 26))
        self.lay(wind < 1.5, 30)
        self.lay(wind < 0, -1000, "lung_airways")
        self.top = top

    def _belly(self) -> None:
        below = (self.z < self.top - 4) & (self.room < -1)
        if "liver" not in self.without:
            right = self.ball((-72, -45, 62), (78, 84, 88), 4)
            lobe = self.ball((8, -100, 72), (72, 34, 34), 4)
            self.lay((np.minimum(right, lobe) < 0) & below & (np.hypot(self.x, self.y) > 36), self.hu["liver"], "liver")
        self.lay((self.ball((48, -62, 62), (34, 46, 36), 4) < 0) & below, self.hu["stomach"])
        self.lay((self.ball((48, -95, 66), (20, 12, 20)) < 0) & below, GAS)
        if "spleen" not in self.without:
            self.lay((self.ball((106, 2, 62), (34, 48, 50), 4) < 0) & below, self.hu["spleen"], "spleen")
        self.lay(self.ball((-62, -98, 6), (18, 18, 26), 3) < 0, self.hu["gallbladder"])
        for side, name, lift in ((1, "kidney_left", 2), (-1, "kidney_right", -14)):
            if name in self.without:
                continue
            c = np.array([side * 66, 14, lift - 8]) + self.rng.uniform(-4, 4, 3)
            h = self.rng.uniform(0.93, 1.07)
            bed = self.ball(tuple(c), (42, 36, 64)) < 0
            self.lay(bed & (self.room < -2), FAT)
            kidney = self.ball(tuple(c), (29 * h, 26 * h, 54 * h))
            self.lay((kidney < 0) & (self.room < 0), self.hu["kidney"], name)
            self.lay(self.ball((c[0] - side * 20, c[1] - 3, c[2]), (16, 11, 20)) < 0, FAT)
        for _ in range(26):
            c = (self.rng.uniform(-95, 95), self.rng.uniform(-115, -60), self.rng.uniform(-200, -25))
            loop = self.ball(c, (self.rng.uniform(13, 22), self.rng.uniform(12, 20), self.rng.uniform(13, 25)))
            self.lay((loop < 0) & (self.room < -2), self.rng.uniform(0, 60))
            if self.rng.random() < 0.5:
                self.lay((loop < -4) & (self.y < c[1]) & (self.room < -2), GAS)
        self.lay(self.ball((0, -50, -235), (42, 38, 34), 3) < 0, 5)
        aorta = np.maximum(np.hypot(self.x - 14, self.y + 36) - 10, -120 - self.z)
        cava = np.maximum(np.hypot(self.x + 20, self.y + 38) - 11, np.maximum(self.z - 130, -120 - self.z))
        self.lay((aorta < 0) & (self.z < 200), self.hu["blood"])
        self.lay(cava < 0, self.hu["blood"])

    def _bones(self) -> None:
        bone = np.zeros(self.image.shape, bool)
        lumbar = self.z < 32
        phase = np.where(lumbar, (self.z + 320) % 35.2 / 35.2, (self.z - 32) % 25.0 / 25.0)
        disc = np.abs(phase - 0.5) > np.where(lumbar, 0.39, 0.38)
        body = np.hypot(self.x / 23, self.y / 17) - 1
        column = (body < 0) & (self.z > -165)
        self.lay(column, DISC)
        self._bone(column & ~disc, bone)
        canal = np.hypot(self.x, self.y - 26)
        self._bone((canal < 16) & (canal > 11) & (np.abs(phase - 0.4) < 0.3) & (self.z > -165), bone, hollow=False)
        spine = (np.abs(self.x) < 4) & (np.abs(self.y - 50) < 13) & (np.abs(phase - 0.35) < 0.2)
        self._bone(spine & (self.z > -165), bone, hollow=False)
        low = self.z + 165
        sacrum = np.hypot(self.x / (52 + 0.3 * low), (self.y - 10 + 0.25 * low) / 22) - 1
        self._bone((sacrum < 0) & (self.z <= -165) & (self.z > -255), bone, "sacrum")
        for side, name in ((1, "left"), (-1, "right")):
            line = side * self.x - 66 - (self.y < -20) * 0 + (self.y - 10) * 0.55 - (self.z + 165) * 0.15
            wing = (np.abs(line) < 8) & (self.y < 42) & (self.y > -62) & (self.z < -100) & (self.z > -232)
            socket = self.ball((side * 88, -28, -236), (34, 32, 30))
            head = self.ball((side * 92, -28, -240), (24, 24, 24))
            self._bone(wing | ((socket < 0) & (head > 4)), bone, f"hip_{name}")
            shaft = np.hypot(self.x - side * (92 + 30), self.y + 24) - 15
            neck = np.hypot(self.y + 26, (self.z + 246) + (side * self.x - 92) * 0.5) - 13
            self._bone((head < 0) | ((shaft < 0) & (self.z < -240)) |
                       ((neck < 0) & (side * self.x > 92) & (side * self.x < 122)), bone, f"femur_{name}")
        ring = (self.room > 0) & (self.room < 8) & (self.y < 62)
        turn = (self.z + 0.35 * self.y + 300) % 24.0
        ribs = ring & (turn < 10) & (self.z > -5 - 0.35 * self.y) & (self.z < 260)
        ribs = ribs & ((np.abs(self.x) > 45) | (self.y > -40))
        self._bone(ribs, bone)
        self.truth["skeleton"] = bone
        for n in range(5):
            low = -320 + 35.2 * (5 + n)
            inside = column & ~disc & (self.z > low) & (self.z < low + 35.2)
            self.truth[f"vertebrae_L{5 - n}"] = inside & bone
        for n in range(8):
            low = 32 + 25.0 * n
            self.truth[f"vertebrae_T{12 - n}"] = column & ~disc & (self.z > low) & (self.z < low + 25.0) & bone

    def _bone(self, mask: np.ndarray, bone: np.ndarray, name: str = "", hollow: bool = True) -> None:
        mask = np.broadcast_to(mask, self.image.shape) & (self.skin < -4)
        self.lay(mask, CORTEX, name)
        bone |= mask
        if hollow:
            shell = max(2.5, 1.01 * float(self.spacing.max()))
            self.image[ndimage.distance_transform_edt(mask, self.spacing) > shell] = MARROW
