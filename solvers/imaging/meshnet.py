"""A chain of dilated 3D convolutions (MeshNet) on the processor: one class for each voxel.

Each convolution is one matrix product for a slab of voxels, on columns gathered
from shifted views; memory is kept below a cap by working on overlapping blocks,
which give the same classes as the whole. Values are single precision, arrays
are channels first.

Source: Fedorov et al. 2017 (MeshNet), arXiv:1612.00940, recalled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import special

from solvers.errors import BadInput

SLAB = 8_192
"""Voxels of one matrix product, at least one line of the volume."""
MEMORY = 2 * 2**30
"""Bytes that may be held at once by default."""
_LEAST_VARIANCE = np.float32(1e-5)


@dataclass(frozen=True)
class Layer:
    """weights: (x, y, z, in, out), odd sizes; bias: (out,); dilation: voxels; activation: name in ACTIVATIONS.

    is_normalised: each output channel is brought to mean 0 and variance 1 over
    the volume before the activation.
    """

    weights: np.ndarray
    bias: np.ndarray
    dilation: int = 1
    activation: str = "linear"
    is_normalised: bool = False

    @property
    def reach(self) -> int:
        """Voxels to each side that a value depends on."""
        return self.dilation * (max(self.weights.shape[:3]) // 2)


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0, out=x)


def _elu(x: np.ndarray) -> np.ndarray:
    low = np.minimum(x, 0)
    return np.maximum(x, 0, out=x).__iadd__(np.expm1(low, out=low))


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * np.float32(0.5) * (1 + special.erf(x * np.float32(np.sqrt(0.5))))


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x, "relu": _relu, "elu": _elu, "gelu": _gelu}


def classes(image: np.ndarray, layers: Sequence[Layer], memory: int = MEMORY) -> np.ndarray:
    """The likeliest class of each voxel, (i, j, k), uint8; image (i, j, k), beyond whose border all is zero.

    memory: bytes. Raises BadInput `too_little_memory` where the network cannot be run below it.
    """
    need = _bytes(image.shape, layers)
    if need <= memory:
        return _run(image, layers)
    halo = sum(layer.reach for layer in layers)
    size = _block(image.shape, layers, halo, memory)
    if size < 1 or any(layer.is_normalised for layer in layers):
        raise BadInput("too_little_memory", f"the network needs {need / 2**30:.1f} GiB for this image",
                       f"at most {memory / 2**30:.1f} GiB", "Raise segment.brain_memory_gib, or take a smaller model.")
    found = np.zeros(image.shape, np.uint8)
    for start in product(*(range(0, n, size) for n in image.shape)):
        inner = tuple(slice(s, min(s + size, n)) for s, n in zip(start, image.shape, strict=True))
        outer = tuple(slice(max(0, s.start - halo), s.stop + halo) for s in inner)
        within = tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(inner, outer, strict=True))
        found[inner] = _run(image[outer], layers)[within]
    return found


def _bytes(shape: Sequence[int], layers: Sequence[Layer]) -> int:
    """Held at once: a layer's input and output (the last is reduced to classes on the way), and a slab's columns.

    The line of a slab is a row of the volume at least, so the columns are counted for SLAB voxels or one row.
    """
    wide = [layer.weights.shape[4] for layer in layers[:-1]]
    pairs = [a + b for a, b in zip([1, *wide], [*wide, 0], strict=True)]
    columns = max(int(np.prod(layer.weights.shape[:4])) + layer.weights.shape[4] for layer in layers)
    return 4 * (int(np.prod(shape)) * max(pairs) + columns * max(SLAB, 2 * shape[2]))


def _block(shape: Sequence[int], layers: Sequence[Layer], halo: int, memory: int) -> int:
    """Edge of the largest cube whose surroundings fit into the memory; 0 when none does."""
    for size in range(max(shape), 0, -1):
        if _bytes([min(n, size + 2 * halo) for n in shape], layers) <= memory:
            return size
    return 0


def _run(image: np.ndarray, layers: Sequence[Layer]) -> np.ndarray:
    values = np.ascontiguousarray(image, np.float32)[None]
    for layer in layers[:-1]:
        values = convolved(values, layer)
    return _likeliest(values, layers[-1])


def convolved(values: np.ndarray, layer: Layer) -> np.ndarray:
    """A layer's output (out, i, j, k) for its input (in, i, j, k)."""
    out = np.empty((layer.weights.shape[4], *values.shape[1:]), np.float32)
    act = ACTIVATIONS[layer.activation]
    for place, product_ in _slabs(values, layer):
        out[place] = product_ if layer.is_normalised else act(product_)
    if layer.is_normalised:
        for channel in out:
            channel -= channel.mean(dtype=np.float64)
            channel /= np.sqrt(np.float32(channel.var(dtype=np.float64)) + _LEAST_VARIANCE)
            channel[:] = act(channel)
    return out


def _likeliest(values: np.ndarray, layer: Layer) -> np.ndarray:
    """The channel with the largest output, the last layer never held whole."""
    found = np.empty(values.shape[1:], np.uint8)
    for place, product_ in _slabs(values, layer):
        found[place[1:]] = product_.argmax(axis=0)
    return found


def _slabs(values: np.ndarray, layer: Layer):  # type: ignore[no-untyped-def]
    """Places (channels, i, rows, all k) and what the convolution gives there, before the activation.

    The columns of a slab are its voxels' neighbours, tap by tap; what lies beyond the border is zero.
    """
    n_in, _, n_j, n_k = values.shape
    taps = list(product(*(range(n) for n in layer.weights.shape[:3])))
    matrix = np.ascontiguousarray(layer.weights.reshape(-1, layer.weights.shape[4]).T, np.float32)
    half = [n // 2 for n in layer.weights.shape[:3]]
    rows = max(1, SLAB // n_k)
    for i, j in product(range(values.shape[1]), range(0, n_j, rows)):
        m = min(rows, n_j - j)
        columns = np.zeros((len(taps), n_in, m, n_k), np.float32)
        for tap, column in zip(taps, columns, strict=True):
            shift = [layer.dilation * (t - h) for t, h in zip(tap, half, strict=True)]
            _gather(values, column, i + shift[0], j + shift[1], shift[2])
        found = matrix @ columns.reshape(len(taps) * n_in, m * n_k)
        found += layer.bias.astype(np.float32)[:, None]
        yield (slice(None), i, slice(j, j + m)), found.reshape(-1, m, n_k)


def _gather(values: np.ndarray, column: np.ndarray, i: int, j: int, k: int) -> None:
    """Copy the slab that starts at (i, j, k) into `column` (in, m, n_k) as far as it lies inside."""
    _, n_i, n_j, n_k = values.shape
    m = column.shape[1]
    low, high = max(j, 0), min(j + m, n_j)
    left, right = max(k, 0), min(k + n_k, n_k)
    if 0 <= i < n_i and low < high and left < right:
        column[:, low - j:high - j, left - k:right - k] = values[:, i, low:high, left:right]
