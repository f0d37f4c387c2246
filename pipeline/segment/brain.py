"""The brain on T1-weighted MR by the weights of a MeshNet that the person has, in TensorFlow.js' form.

A model is a folder: model.json (layers, and a list of weights), the weights as
little-endian numbers, and colormap.json with a name for each class. The image
is brought to 1 mm with axes from right to left, from head to foot and from back
to front, as the network was trained; the classes go back to the image's grid.

Sources: layout of the files, https://www.tensorflow.org/js/guide/save_load; what the networks expect of an image:
brainchop, https://github.com/neuroneural/brainchop (Masoud, Hu & Plis 2023, doi:10.21105/joss.05098, recalled).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from pipeline.segment.organs import Organ, Organs
from solvers.errors import BadInput
from solvers.geometry.volume import Volume
from solvers.imaging import meshnet

AXES = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]])
"""Rows: directions of the network's axes in LPS."""
NAMES = {
    "brain_mask": "brain", "white_matter": "white_matter", "grey_matter": "grey_matter", "gray_matter": "grey_matter",
    "cerebral_white_matter": "cerebral_white_matter", "cerebral_cortex": "cerebral_cortex",
    "lateral_ventricle": "lateral_ventricle", "inferior_lateral_ventricle": "inferior_lateral_ventricle",
    "cerebellum_white_matter": "cerebellar_white_matter", "cerebellum_cortex": "cerebellar_cortex",
    "thalamus": "thalamus", "caudate": "caudate", "putamen": "putamen", "pallidum": "pallidum",
    "3rd_ventricle": "third_ventricle", "4th_ventricle": "fourth_ventricle", "brain_stem": "brainstem",
    "hippocampus": "hippocampus", "amygdala": "amygdala", "accumbens_area": "accumbens",
    "ventraldc": "ventral_diencephalon"}
"""A class's name in the model to ours."""
CONFIDENCE = 0.8
MOST_BYTES = 512 * 2**20
HEAD = 0.2
"""Part of the brightest from which a voxel counts as head; the rest is cut away."""
Scale = Literal["range", "quantiles"]


@dataclass(frozen=True)
class Model:
    """layers, and a name of ours for each class but the first, which is background."""

    layers: tuple[meshnet.Layer, ...]
    names: tuple[str, ...]
    scale: Scale


def find(volume: Volume, folder: Path, memory: int = meshnet.MEMORY) -> Organs:
    """The regions of the brain on the image's grid. Raises BadInput where the model cannot be read or used."""
    model = load(folder)
    image, back = _as_trained(volume)
    scaled = _scaled(image, model.scale)
    box = _head(scaled)
    found = np.zeros(image.shape, np.uint8)
    found[box] = meshnet.classes(scaled[box], model.layers, memory)
    whole = _largest(_returned(found, back, volume))
    present = {name: whole == n for n, name in enumerate(model.names, start=1)}
    return Organs({n: Organ(m, CONFIDENCE, not _is_cut(m)) for n, m in present.items() if m.any()},
                  {n: "no voxel is of this class" for n, m in present.items() if not m.any()})


# The model

def load(folder: Path) -> Model:
    """The model in a folder; BadInput `bad_model` says what is wrong with it."""
    content = _json(folder / "model.json")
    try:
        layers = _layers(content, _weights(content, folder))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise _bad(f"model.json is not a chain of convolutions that can be read ({type(error).__name__})") from error
    told = _json(folder / "colormap.json").get("labels", [])
    if len(told) != layers[-1].weights.shape[4]:
        raise _bad(f"colormap.json names {len(told)} classes, the network has {layers[-1].weights.shape[4]}")
    keys = [str(n).lower().replace("-", "_").replace(" ", "_") for n in told[1:]]
    unknown = [n for n in keys if n not in NAMES]
    if unknown:
        raise BadInput("unknown_region", f"{len(unknown)} classes of the model are not in the table of anatomy "
                       f"({', '.join(unknown[:3])}, ...)", "classes of the brain, its tissues or deep nuclei",
                       "Take a model of 2, 3 or 18 classes.")
    scale: Scale = "quantiles" if "quantile" in str(content.get("_comment", "")) else "range"
    return Model(tuple(layers), tuple(NAMES[n] for n in keys), scale)


def _bad(what: str) -> BadInput:
    return BadInput("bad_model", what, "a folder with model.json, its weights and colormap.json",
                    "Fetch it again: anatwin fetch.")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _bad(f"{path.name} is missing or is not JSON") from error
    if not isinstance(content, dict):
        raise _bad(f"{path.name} is not an object")
    return content


def _weights(content: dict[str, Any], folder: Path) -> dict[str, np.ndarray]:
    """Name to array, of all groups of the manifest."""
    found: dict[str, np.ndarray] = {}
    for group in content["weightsManifest"]:
        paths = [folder / str(p) for p in group["paths"]]
        if any(p.parent != folder or not p.is_file() for p in paths):
            raise _bad("a file of weights is missing beside model.json")
        if sum(p.stat().st_size for p in paths) > MOST_BYTES:
            raise _bad("the weights are larger than those of any known model")
        raw, at = b"".join(p.read_bytes() for p in paths), 0
        for one in group["weights"]:
            if one["dtype"] != "float32" or one.get("quantization"):
                raise _bad(f"weights of the type {one['dtype']}, or quantised, are not supported")
            n = int(np.prod(one["shape"]))
            found[one["name"]] = np.frombuffer(raw, "<f4", n, at).reshape(one["shape"])
            at += 4 * n
        if at != len(raw):
            raise _bad(f"the weights hold {len(raw)} bytes, model.json accounts for {at}")
    return found


def _layers(content: dict[str, Any], weights: dict[str, np.ndarray]) -> list[meshnet.Layer]:
    """Convolutions in order, each with the activation that follows it."""
    made: list[meshnet.Layer] = []
    for layer in content["modelTopology"]["model_config"]["config"]["layers"]:
        kind, config = layer["class_name"], layer["config"]
        if kind == "Conv3D":
            made.append(_convolution(config, weights))
        elif kind == "Activation" and made and made[-1].activation == "linear":
            made[-1] = _active(made[-1], config["activation"])
        elif kind != "InputLayer":
            raise _bad(f"a layer of the kind {kind} at this place is not supported")
    n = [1, *(layer.weights.shape[4] for layer in made)]
    if not made or any(layer.weights.shape[3] != m for layer, m in zip(made, n[:-1], strict=True)) or n[-1] > 255:
        raise _bad("the layers do not follow each other")
    return made


def _convolution(config: dict[str, Any], weights: dict[str, np.ndarray]) -> meshnet.Layer:
    """A name that ends with _gn asks for normalised channels, as brainchop has it."""
    name, kernel = config["name"], weights[f"{config['name']}/kernel"]
    dilation = {int(d) for d in config["dilation_rate"]}
    if config["padding"] != "same" or {int(s) for s in config["strides"]} != {1} or len(dilation) != 1 \
            or config.get("data_format", "channels_last") != "channels_last" \
            or any(n % 2 == 0 for n in kernel.shape[:3]):
        raise _bad(f"the convolution {name} has strides, padding or dilations that are not supported")
    bias = weights[f"{name}/bias"] if config.get("use_bias", True) else np.zeros(kernel.shape[4], np.float32)
    return _active(meshnet.Layer(kernel, bias, dilation.pop(), is_normalised=name.endswith("_gn")),
                   config.get("activation", "linear"))


def _active(layer: meshnet.Layer, name: str) -> meshnet.Layer:
    if name not in meshnet.ACTIVATIONS:
        raise _bad(f"the activation {name} is not supported")
    return meshnet.Layer(layer.weights, layer.bias, layer.dilation, name, layer.is_normalised)


# The image

def _as_trained(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """The image at 1 mm on the network's axes, and the (4, 4) from index of the image to index of that."""
    ends = volume.position(np.array(np.meshgrid(*[[0, n - 1] for n in volume.values.shape])).reshape(3, -1).T) @ AXES.T
    low = ends.min(axis=0)
    there = np.eye(4)
    there[:3] = AXES @ volume.affine[:3]
    there[:3, 3] -= low
    size = np.ceil(np.ptp(ends, axis=0) - 1e-3).astype(int) + 1
    here = np.linalg.inv(there)
    if np.allclose(np.abs(there[:3, :3]), np.abs(there[:3, :3]).round(), atol=1e-3):
        here = here.round(6)  # axes that only change their order: no blurring by rounding
    blur = [max(0.0, 0.5 * (1 / s - 1)) for s in volume.spacing]  # only where the image is finer than 1 mm
    values = ndimage.gaussian_filter(np.asarray(volume.values, np.float32), blur) if any(blur) else volume.values
    made = ndimage.affine_transform(np.asarray(values, np.float32), here[:3, :3], here[:3, 3], tuple(size), order=1)
    return made, there


def _scaled(image: np.ndarray, scale: Scale) -> np.ndarray:
    """Values as in training: lowest 0 and highest 1 (a thousandth of the brightest cut off), or by 5 and 95 %."""
    if scale == "quantiles":
        low, high = np.quantile(image, [0.05, 0.95])
    else:
        low, high = image.min(), image.max()
        if high > 255:  # not conformed to 8 bits, which cuts the brightest off
            high = np.quantile(image, 0.999)
    if not high > low:
        raise BadInput("empty_series", "the image is the same nearly everywhere", "a T1-weighted image of a head",
                       "Choose another series.")
    scaled = (image - np.float32(low)) / np.float32(high - low)
    return scaled if scale == "quantiles" else np.clip(scaled, 0, 1)


def _head(scaled: np.ndarray) -> tuple[slice, ...]:
    """The box around all voxels above HEAD of the brightest."""
    return ndimage.find_objects((scaled > HEAD * scaled.max()).astype(np.uint8))[0]


def _returned(found: np.ndarray, there: np.ndarray, volume: Volume) -> np.ndarray:
    """Classes on the image's grid, the nearest of each voxel."""
    return ndimage.affine_transform(found, there[:3, :3], there[:3, 3], volume.values.shape, order=0)


def _largest(values: np.ndarray) -> np.ndarray:
    """The classes of the largest connected region; what lies apart (eyes, neck) is no brain."""
    region, n = ndimage.label(values > 0, np.ones((3, 3, 3)))
    if n == 0:
        raise BadInput("no_brain", "the network found no brain", "a T1-weighted image of a whole head",
                       "Look at the image; another series may fit.")
    return np.where(region == np.bincount(region.ravel())[1:].argmax() + 1, values, 0)


def _is_cut(mask: np.ndarray) -> bool:
    return any(bool(mask.take(n, axis).any()) for axis in range(3) for n in (0, -1))
