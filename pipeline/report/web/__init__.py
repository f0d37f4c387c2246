"""The page's style, the 3D viewer's source (viewer.js) and its bundle, built by build.mjs."""

from importlib.resources import files


def text(name: str) -> str:
    """One file of this folder, as text."""
    return (files(__name__) / name).read_text(encoding="utf-8")
