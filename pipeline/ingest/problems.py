"""What the limited child says of a file that it cannot use, and what a person may try."""

from collections.abc import Sequence

from solvers.errors import BadInput

_AGAIN = "Export the series again from where it came."
HINTS = {
    "corrupt": _AGAIN, "truncated": "Copy the series again; a transfer may have been cut.",
    "decoder_died": "Export or copy the series again, uncompressed if possible.",
    "empty_mask": "Look at the regions where they were drawn, and export them again.",
    "grid_mismatch": "Put the series that the regions were drawn on beside them, or export them on its grid.",
    "image_missing": "Put both files side by side.",
    "invalid_geometry": "Correct the header, or export the series again with its geometry.",
    "invalid_rescale": "Correct the scale in the header, or export the series again.",
    "not_a_volume": "Give a volume of grey values: CT, MR or PET.", "not_finite": _AGAIN,
    "oblique_contours": "Draw or export the contours in the planes of the image.",
    "sheared_axes": "Resample the image to an orthogonal grid.",
    "too_large": "Check the sizes in the header; crop or resample the image if it is truly that large.",
    "unsupported_analyze": "Convert it to NIfTI from its original, where left and right are known.",
    "unsupported_detached": "Put the voxels into the same file as the header, or beside it under a plain name.",
    "unsupported_mosaic": "Export it as enhanced or classic single slices.",
    "unsupported_pixels": "Convert it to whole numbers or floating point of 8 to 64 bits.",
    "unsupported_transfer_syntax": "Export the series uncompressed.",
}
"""What to try, by code."""


class Problem(Exception):
    """What is wrong with one file: a stable code, a sentence without names or paths."""

    def __init__(self, code: str, happened: str) -> None:
        super().__init__(happened)
        self.code, self.happened = code, happened


def refusal(problem: Sequence[str], before: str = "") -> BadInput:
    """A child's [code, sentence] as an error for a person; `before` opens the sentence."""
    code, happened = problem
    return BadInput(code, f"{before}{happened}", "a readable image", HINTS[code])
