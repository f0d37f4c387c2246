"""Two networks agree on the tissues of a real head, and with what is known of adults (README.md)."""

import json
import resource
import shutil
import time

import numpy as np
import pytest

from pipeline import formats
from pipeline.segment import brain


def of_network(shared, tmp_path, name, colours):
    """Regions by name, and CPU seconds."""
    source, folder = shared / "scans/brainchop-meshnet/public/models" / name, tmp_path / name
    shutil.copytree(source, folder)
    folder.chmod(0o755)
    (folder / "colormap.json").unlink()
    shutil.copy(source / colours, folder / "colormap.json")
    volume = formats.read_volume(shared / "scans/brainchop-meshnet/public/t1_crop.nii.gz")
    started = time.process_time()
    found = brain.find(volume, folder).found
    return volume, {n: o.mask for n, o in found.items()}, time.process_time() - started


@pytest.mark.verify
def test_two_networks_agree_on_the_tissues_of_a_head(shared, tmp_path):
    volume, light, quick = of_network(shared, tmp_path, "model5_gw_ae", "colormap3.json")
    _, heavy, slow = of_network(shared, tmp_path, "model20chan3cls", "colormap.json")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    ml = {n: float(m.sum()) * volume.voxel_volume / 1000 for n, m in heavy.items()}
    dice = {n: 2 * (light[n] & heavy[n]).sum() / (light[n].sum() + heavy[n].sum()) for n in heavy}
    print(json.dumps({"dice": dice, "ml": ml, "cpu_s": [quick, slow], "peak_gib": memory}, default=float))
    assert min(dice.values()) > 0.85
    assert 350 < ml["white_matter"] < 700 and 500 < ml["grey_matter"] < 900
    grey = np.asarray(volume.values, float)
    white, matter = (grey[heavy[n]].mean() for n in ("white_matter", "grey_matter"))
    assert white > 1.15 * matter > 1.15 * grey[~(heavy["white_matter"] | heavy["grey_matter"])].mean()
    sides = volume.position(np.argwhere(heavy["white_matter"]))[:, 0]
    middle = volume.position(np.argwhere(heavy["white_matter"] | heavy["grey_matter"]))[:, 0].mean()
    assert 0.95 < (sides > middle).sum() / (sides < middle).sum() < 1.05
