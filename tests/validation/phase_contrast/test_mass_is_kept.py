"""Planes along a vessel carry the same flow, on real and on made phase-contrast data (README.md)."""

import numpy as np
import pytest
from scipy import ndimage

from solvers.imaging import phase_contrast
from solvers.imaging.phase_contrast import Corrections, Encoded

RAW = Corrections(unwrap=False, background=None)
CAROTID = (76, 49, 45)


def cut(lumen, clean, centre, normal, reach):
    plane = phase_contrast.cross_section(lumen, clean.encoded.affine, centre, normal, reach)
    return phase_contrast.through(clean, plane, np.zeros(1), 1.0)


def centre_in(slice_of_lumen, near=None):
    """Middle of the largest region in a slice, or of the one nearest to a point; index coordinates."""
    region, n = ndimage.label(slice_of_lumen)
    middles = [np.argwhere(region == i).mean(axis=0) for i in range(1, n + 1)]
    sizes = np.bincount(region.ravel())[1:]
    best = int(sizes.argmax() if near is None else np.argmin([np.linalg.norm(m - near) for m in middles]))
    return middles[best], region == best + 1


def field(file, spacing, magnitude):
    velocity = np.stack([file[c][0] for c in "uvw"], axis=-1)[:, :, :, None].astype(float)
    encoded = Encoded(velocity, magnitude[..., None].astype(float), np.eye(3), np.full(3, 1.5),
                      np.diag([*spacing, 1.0]))
    return phase_contrast.solve(encoded, RAW), file["mask"][0] > 0.5


@pytest.fixture(scope="module")
def aorta(shared):
    """The fine field and the coarse image, each with its lumen."""
    h5py = pytest.importorskip("h5py", reason="4DFlowNet's files need h5py")
    folder = shared / "scans" / "flow-4dflownet" / "data"
    with h5py.File(folder / "example_data_HR.h5") as fine, h5py.File(folder / "example_data.h5") as coarse:
        return (field(fine, fine["dx"][0], fine["mask"][0]),
                field(coarse, coarse["dx"][0], np.mean([coarse[f"mag_{c}"][0] for c in "uvw"], axis=0)))


@pytest.mark.verify
@pytest.mark.parametrize(("axis", "places"), [(0, (64, 68, 72, 76, 80)), (2, (54, 58, 62, 66))])
def test_planes_along_the_aorta(aorta, axis, places):
    (fine, wide), (coarse, narrow) = aorta
    flows = []
    for at in places:
        middle = np.insert(centre_in(wide.take(at, axis))[0], axis, at) * fine.encoded.spacing
        flows.append([cut(m, c, middle, np.eye(3)[axis], 25.0) for c, m in ((fine, wide), (coarse, narrow))])
    exact, seen = (np.array([pair[n].net for pair in flows]) for n in (0, 1))
    deviation = np.array([pair[1].net_deviation for pair in flows])
    print(f"\naxis {axis}: fine {np.round(1e6 * exact, 1)} mL/s, coarse over fine {np.round(seen / exact, 3)}, "
          f"apart over deviation {np.round(np.abs(seen - exact) / deviation, 2)}")
    assert np.abs(exact / exact.mean() - 1).max() < 0.015
    assert np.all((seen / exact > 0.9) & (seen / exact < 1.03))
    assert np.abs(seen - exact).max() < 2 * deviation.max()


@pytest.mark.parametrize("start", [(19, 23), (31, 32), (47, 22)], ids=["left", "basilar", "right"])
def test_planes_along_three_arteries_of_the_head(shared, start):
    import pyvista

    mesh = pyvista.read(shared / "scans" / "vtk-carotid-pcmra" / "carotid.vtk")
    velocity = mesh.point_data["vectors"].reshape(*CAROTID, 3, order="F")[:, :, :, None].astype(float)
    magnitude = mesh.point_data["scalars"].reshape(*CAROTID, 1, order="F").astype(float)
    clean = phase_contrast.solve(Encoded(velocity, magnitude, np.eye(3), np.full(3, 30.0), np.eye(4)), RAW)
    lumen = np.linalg.norm(velocity[:, :, :, 0], axis=-1) > 3
    flows, at = [], np.array(start, float)
    for k in range(6, 21, 2):
        at, region = centre_in(lumen[:, :, k], at)
        flows.append(cut(lumen, clean, np.array([*at, k]), velocity[:, :, k, 0][region].mean(axis=0), 7.0))
    net = np.array([f.net for f in flows])
    reported = np.mean([f.net_deviation for f in flows]) / net.mean()
    print(f"\nspread {net.std() / net.mean():.3f}, reported {reported:.3f}")
    assert (net > 0).all() and net.std() < 0.16 * net.mean()
    found = phase_contrast.vessels(clean)
    assert np.count_nonzero(lumen & (found > 0) & (found <= 3)) > 0.9 * lumen.sum()
