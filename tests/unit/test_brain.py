"""The brain by a network: its layers are those convolutions, its files are read or refused, weights come checked."""

import hashlib
import http.server
import json
import shutil
import threading
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, special

from pipeline import formats
from pipeline.segment import SegmentConfig, SegmentInputs, brain, segment
from pipeline.stage import run
from solvers.errors import BadInput, MissingTool
from solvers.geometry.volume import Volume
from solvers.imaging import meshnet
from solvers.imaging.meshnet import Layer
from workflows import weights

RANDOM = np.random.default_rng(5)
SIZE = (14, 17, 12)


def some_layer(n_in, n_out, dilation=1, **more):
    return Layer(RANDOM.normal(size=(3, 3, 3, n_in, n_out)).astype(np.float32) / 3,
                 RANDOM.normal(size=n_out).astype(np.float32), dilation, **more)


def by_scipy(values, layer):
    """The convolution by scipy's correlate on a kernel with holes, in double precision."""
    size = 2 * layer.dilation + 1
    out = np.zeros((layer.weights.shape[4], *values.shape[1:]))
    for o, c in product(range(len(out)), range(len(values))):
        kernel = np.zeros((size,) * 3)
        kernel[::layer.dilation, ::layer.dilation, ::layer.dilation] = layer.weights[:, :, :, c, o]
        out[o] += ndimage.correlate(values[c].astype(float), kernel, mode="constant")
    return out + layer.bias[:, None, None, None]


ACTIVE = {"linear": lambda x: x, "relu": lambda x: np.where(x > 0, x, 0),
          "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
          "gelu": lambda x: x * special.ndtr(x)}


@pytest.mark.parametrize(("dilation", "activation"), [(1, "linear"), (2, "relu"), (8, "elu"), (16, "gelu")])
def test_a_layer_is_that_convolution(dilation, activation):
    values, layer = RANDOM.normal(size=(2, *SIZE)).astype(np.float32), some_layer(2, 3, dilation, activation=activation)
    assert meshnet.convolved(values, layer) == pytest.approx(ACTIVE[activation](by_scipy(values, layer)), abs=2e-5)


def test_channels_are_normalised_where_asked():
    values, layer = RANDOM.normal(size=(1, *SIZE)).astype(np.float32), some_layer(1, 2, activation="relu",
                                                                                  is_normalised=True)
    plain = by_scipy(values, layer)
    wanted = (plain - plain.mean(axis=(1, 2, 3), keepdims=True)) / plain.std(axis=(1, 2, 3), keepdims=True)
    assert meshnet.convolved(values, layer) == pytest.approx(np.maximum(wanted, 0), abs=1e-4)


def test_blocks_give_the_classes_of_the_whole(monkeypatch):
    """Below a cap on memory the image goes through in overlapping blocks; nothing is told of it in the result."""
    monkeypatch.setattr(meshnet, "SLAB", 64)
    image = RANDOM.normal(size=(40, 34, 30)).astype(np.float32)
    layers = [some_layer(1, 6, activation="elu"), some_layer(6, 6, 2, activation="elu"), some_layer(6, 4)]
    whole = meshnet.classes(image, layers)
    need = meshnet._bytes(image.shape, layers)
    ran = []
    real = meshnet._run
    monkeypatch.setattr(meshnet, "_run", lambda part, ls: ran.append(meshnet._bytes(part.shape, ls)) or real(part, ls))
    assert np.array_equal(meshnet.classes(image, layers, need // 3), whole)
    assert len(ran) > 1 and max(ran) <= need // 3 and len(np.unique(whole)) == 4
    for few, these in ((1000, layers), (need // 3, [some_layer(1, 6, is_normalised=True), some_layer(6, 4)])):
        with pytest.raises(BadInput, match="GiB"):
            meshnet.classes(image, these, few)


# The files of a model

def written(folder: Path, layers, names=("background", "White Matter", "Grey Matter"), **more) -> Path:
    """A model in TensorFlow.js' form."""
    folder.mkdir()
    told, listed = [{"class_name": "InputLayer", "config": {"name": "input"}}], []
    for n, layer in enumerate(layers):
        told += [{"class_name": "Conv3D", "config": {
            "name": f"c{n}", "strides": [1, 1, 1], "padding": "same", "dilation_rate": [layer.dilation] * 3,
            "activation": "linear", "use_bias": True, "data_format": "channels_last"}},
            {"class_name": "Activation", "config": {"name": f"a{n}", "activation": layer.activation}}]
        listed += [(f"c{n}/kernel", layer.weights), (f"c{n}/bias", layer.bias)]
    (folder / "w.bin").write_bytes(b"".join(a.astype("<f4").tobytes() for _, a in listed))
    (folder / "model.json").write_text(json.dumps(more | {
        "modelTopology": {"model_config": {"config": {"layers": told}}},
        "weightsManifest": [{"paths": ["w.bin"], "weights": [
            {"name": n, "shape": list(a.shape), "dtype": "float32"} for n, a in listed]}]}))
    (folder / "colormap.json").write_text(json.dumps({"labels": list(names)}))
    return folder


def threshold_layers():
    """A network that calls the brightest third white matter, the middle grey matter: its answer is known."""
    first, last = np.zeros((3, 3, 3, 1, 1), np.float32), np.zeros((1, 1, 1, 1, 3), np.float32)
    first[1, 1, 1] = 1
    last[0, 0, 0, 0] = [0, 6, 3]
    return [Layer(first, np.zeros(1, np.float32), 2, "relu"), Layer(last, np.array([0, -3.2, -1], np.float32))]


def test_a_model_is_read_as_it_was_written(tmp_path):
    layers = [some_layer(1, 4, 4, activation="elu"), some_layer(4, 3)]
    model = brain.load(written(tmp_path / "m", layers, _comment="min = 5% quantile"))
    assert model.names == ("white_matter", "grey_matter") and model.scale == "quantiles"
    for made, given in zip(model.layers, layers, strict=True):
        assert np.array_equal(made.weights, given.weights) and np.array_equal(made.bias, given.bias)
        assert (made.dilation, made.activation) == (given.dilation, given.activation)


@pytest.mark.parametrize(("harm", "code"), [
    (lambda f: (f / "w.bin").write_bytes((f / "w.bin").read_bytes()[:-4]), "bad_model"),
    (lambda f: (f / "w.bin").write_bytes((f / "w.bin").read_bytes() + b"0000"), "bad_model"),
    (lambda f: (f / "w.bin").unlink(), "bad_model"),
    (lambda f: (f / "model.json").write_text("{"), "bad_model"),
    (lambda f: (f / "model.json").write_text((f / "model.json").read_text().replace("w.bin", "../w.bin")), "bad_model"),
    (lambda f: (f / "model.json").write_text((f / "model.json").read_text().replace('"elu"', '"mish"')), "bad_model"),
    (lambda f: (f / "model.json").write_text((f / "model.json").read_text().replace('"same"', '"valid"')), "bad_model"),
    (lambda f: (f / "colormap.json").write_text('{"labels": ["background", "brain mask"]}'), "bad_model"),
    (lambda f: (f / "colormap.json").write_text('{"labels": ["a", "White Matter", "Atlantis"]}'), "unknown_region")])
def test_a_model_that_cannot_be_used_is_refused(harm, code, tmp_path):
    folder = written(tmp_path / "m", [some_layer(1, 4, activation="elu"), some_layer(4, 3)])
    harm(folder)
    with pytest.raises(BadInput) as refused:
        brain.load(folder)
    assert refused.value.code == code


@pytest.mark.parametrize("axes", [np.diag([1.0, 1, 1]), np.array([[0, -1.0, 0], [0, 0, 1.0], [-1.0, 0, 0]]),
                                  np.diag([0.8, -1.0, 1.2])])
def test_regions_lie_where_they_are_in_the_image(axes, tmp_path):
    """However the image's axes run, and whatever its spacing, the ball and its shell come back in place."""
    n = np.ceil(44 / np.linalg.norm(axes, axis=0)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = [-10, 30, 5] - axes @ ((n - 1) / 2)
    grid = np.stack(np.meshgrid(*map(np.arange, n), indexing="ij"), axis=-1)
    place = Volume(grid, affine).position(grid.reshape(-1, 3)).reshape(grid.shape)
    r = np.linalg.norm(place - [-7, 30, 5], axis=-1)
    volume = Volume(np.where(r < 8, 250.0, np.where(r < 13, 150.0, 0.0)).astype(np.float32), affine)
    path = tmp_path / "v.nii.gz"
    formats.write_volume(path, volume)
    done = run(segment, SegmentInputs(volume=path, brain_model=written(tmp_path / "m", threshold_layers())),
               SegmentConfig(), tmp_path / "segment")
    labels = np.asarray(formats.read_volume(done.labels).values)
    for name, wanted in (("white_matter", r < 8), ("grey_matter", (r >= 8) & (r < 13))):
        mine = labels == brain_index(name)
        assert 2 * (mine & wanted).sum() / (mine.sum() + wanted.sum()) > 0.93
        centre = [place[m].mean(axis=0) for m in (mine, wanted)]
        assert np.linalg.norm(centre[0] - centre[1]) < 0.2
    assert done.lumen is None and "Grey" not in done.table.read_text() and "grey_matter" in done.table.read_text()


def brain_index(name):
    from solvers.library import anatomy

    return anatomy.structure(name).index


# Weights

@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server on this machine with the files of a model, and a table that names their checksums."""
    folder = written(tmp_path / "served", threshold_layers())
    files = tuple((n, n, hashlib.sha256((folder / n).read_bytes()).hexdigest())
                  for n in ("model.json", "w.bin", "colormap.json"))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(weights, "known", lambda: {"toy": weights.Weights("a toy", "MIT", address, files)})
    monkeypatch.setenv("ANATWIN_WEIGHTS", str(tmp_path / "kept"))
    yield folder
    server.shutdown()
    server.server_close()


def test_weights_come_checked_and_whole(mirror):
    with pytest.raises(MissingTool, match="anatwin fetch toy"):
        weights.find("toy")
    assert weights.fetch("toy") == weights.find("toy")
    assert brain.load(weights.find("toy")).names == ("white_matter", "grey_matter")
    (weights.home() / "toy" / "w.bin").write_bytes(b"changed")
    with pytest.raises(BadInput, match="SHA-256"):
        weights.find("toy")


def test_weights_that_differ_are_not_kept(mirror):
    (mirror / "w.bin").write_bytes((mirror / "w.bin").read_bytes()[:-1] + b"x")
    with pytest.raises(BadInput) as refused:
        weights.fetch("toy")
    assert refused.value.code == "checksum_differs"
    assert list(weights.home().iterdir()) == []
    (mirror / "w.bin").unlink()
    with pytest.raises(BadInput) as refused:
        weights.fetch("toy")
    assert refused.value.code == "cannot_fetch" and list(weights.home().iterdir()) == []


def test_the_table_of_weights_is_that_of_the_files(shared, tmp_path, monkeypatch):
    """What would be fetched has the checksums of the copies here, and is a model that can be read."""
    monkeypatch.setenv("ANATWIN_WEIGHTS", str(tmp_path))
    for name, one in weights.known().items():
        (tmp_path / name).mkdir()
        for here, there, _ in one.files:
            shutil.copy(shared / "scans/brainchop-meshnet/public/models" / one.source.split("/")[-2] / there,
                        tmp_path / name / here)
        assert brain.load(weights.find(name)).names
    with pytest.raises(BadInput, match="neither a folder nor"):
        weights.find("atlantis")
