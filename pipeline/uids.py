"""UIDs of what leaves the project: made from keyed hashes, never from a UID of the hospital.

A UID under 2.25 is a UUID as one decimal number (DICOM PS3.5 B.2); the UUID is of
version 8 (RFC 9562): the maker fills it, here with a digest. The same hash always
gives the same UID, so that all results of a case cite the same images.
"""

import hashlib
import uuid


def of(*words: str) -> str:
    """The UID that stands for `words`, such as ("image", keyed hash)."""
    digest = hashlib.sha256("\x1f".join(("anatwin", *words)).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=_version_8(digest[:16])).int}"


def _version_8(raw: bytes) -> bytes:
    """Sixteen bytes with version 8 and the variant of RFC 9562 in their places."""
    return raw[:6] + bytes([raw[6] & 0x0F | 0x80, raw[7], raw[8] & 0x3F | 0x80]) + raw[9:]
