"""Which files of a scan could be images: regular files only, archives opened, told apart by their first bytes.

Names are not trusted and never leave: a file called `.dcm` that holds text is
refused as such, a NIfTI without its suffix is found. Links that lead out of the
scan, pipes, sockets and devices are counted, not opened.
"""

import errno
import hashlib
import os
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from solvers.errors import BadInput

MAX_FILES = 200_000
MAX_DEPTH = 32
MAX_UNPACKED = 40 * 2**30
"""Bytes that an archive may hold in all."""
MAX_RATIO = 1000
"""Unpacked to packed bytes of an archive beyond which it is taken for a bomb."""

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)

_SUFFIXES = {".dcm": "dicom", ".ima": "dicom", ".dicom": "dicom", ".nii": "nifti", ".nii.gz": "nifti",
             ".hdr": "nifti", ".mha": "metaimage", ".mhd": "metaimage", ".nrrd": "nrrd", ".nhdr": "nrrd"}
_CODES = {"dicom": ("not_dicom", "a DICOM file"), "nifti": ("not_nifti", "a NIfTI file"),
          "metaimage": ("not_metaimage", "a MetaImage file"), "nrrd": ("not_nrrd", "a NRRD file")}


@dataclass(frozen=True)
class Found:
    """A file that claims to be an image; `name` is its path within the scan, for grouping only."""

    path: Path
    kind: str
    name: str

    @property
    def folder(self) -> str:
        """The folder within the scan."""
        return PurePosixPath(self.name).parent.as_posix()


@dataclass
class Findings:
    """What a scan holds: candidates, files refused by their look, and what was passed over, by reason.

    `doubtful`: files that are called DICOM and are not. `n_files`: all that was met, members of archives
    beside the archives.
    """

    files: list[Found] = field(default_factory=list)
    refused: list[BadInput] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    doubtful: list[Found] = field(default_factory=list)
    n_files: int = 0

    def ignore(self, why: str) -> None:
        """Count one file that is not looked into."""
        self.ignored[why] += 1
        self.n_files += 1

    def add(self, other: "Findings") -> None:
        """Take over all of another."""
        self.files += other.files
        self.refused += other.refused
        self.ignored += other.ignored
        self.doubtful += other.doubtful
        self.n_files += other.n_files


def discover(scan: Path, scratch: Path) -> Findings:
    """All candidate files of a file, folder or archive; archives are unpacked into `scratch`."""
    if not scan.exists():
        raise BadInput("nothing_found", "the scan does not exist", "a file or a folder of images", "Check the path.")
    found = Findings()
    root = scan.resolve()
    if root.is_file() and root.name.upper() == "DICOMDIR":
        root = root.parent
    if root.is_file():
        _sort_in(root, root.name, found, scratch, depth=0)
    elif root.is_dir():
        for path in _walk(root, found):
            _sort_in(path, path.relative_to(root).as_posix(), found, scratch, depth=0)
    else:
        raise BadInput("nothing_found", "the scan is neither a regular file nor a folder", "a file or a folder",
                       "Point at the folder of the scan.")
    return found


def _walk(root: Path, found: Findings) -> Iterator[Path]:
    """Regular files under `root`, sorted, hidden ones apart; depth and number are capped."""
    todo, n_files = [(root, 0)], 0
    while todo:
        folder, depth = todo.pop()
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
        folders = [e for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
        if folders and depth >= MAX_DEPTH:
            raise BadInput("too_many_files", f"folders are nested deeper than {MAX_DEPTH}", "a scan folder",
                           "Point at the folder of one study.")
        todo += [(Path(e.path), depth + 1) for e in reversed(folders)]
        for entry in entries:
            if _is_ours(entry, root, found):
                n_files += 1
                if n_files > MAX_FILES:
                    raise BadInput("too_many_files", f"more than {MAX_FILES} files", "a scan folder",
                                   "Point at the folder of one study.")
                yield Path(entry.path)


def _is_ours(entry: "os.DirEntry[str]", root: Path, found: Findings) -> bool:
    """Whether to look into a folder's entry; what is passed over is counted."""
    if entry.is_dir(follow_symlinks=False):
        return False
    if entry.is_symlink():
        target = Path(entry.path).resolve()
        if not (target.is_relative_to(root) and target.is_file()):
            found.ignore("link out of the scan")
            return False
    elif not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
        found.ignore("not a regular file")
        return False
    if entry.name.startswith("."):
        found.ignore("hidden file")
        return False
    return True


def _sort_in(path: Path, name: str, found: Findings, scratch: Path, depth: int) -> None:
    """Put one regular file where it belongs by its first bytes."""
    head = first_bytes(path)
    kind = kind_of(head)
    found.n_files += 1
    claimed = next((k for s, k in _SUFFIXES.items() if name.lower().endswith(s)), None)
    if kind in ("zip", "tar"):
        _unpack(path, name, kind, found, scratch, depth)
    elif kind is not None:
        found.files.append(Found(path, kind, name))
    elif claimed is not None:
        found.refused.append(_mislabelled(claimed, name, head))
        if claimed == "dicom":
            found.doubtful.append(Found(path, "", name))
    else:
        found.ignored["data file of a header" if _has_header(path) else "not an image"] += 1


def _has_header(path: Path) -> bool:
    """Whether a header of the same name lies beside a file of bare voxels."""
    stem = path.name.removesuffix(".gz").rpartition(".")[0]
    return path.name.removesuffix(".gz").lower().endswith((".img", ".raw", ".zraw")) and any(
        path.with_name(stem + suffix).is_file() for suffix in (".hdr", ".hdr.gz", ".mhd", ".nhdr"))


def _mislabelled(claimed: str, name: str, head: bytes) -> BadInput:
    code, wanted = _CODES[claimed]
    holds = "is empty" if not head else "holds text" if _is_text(head) else "holds something else"
    suffix = "".join(PurePosixPath(name.lower()).suffixes[-2:]) if name.lower().endswith(".gz") else Path(name).suffix
    return BadInput(code, f"a file named *{suffix} {holds}: its format is not recognised, it is not {wanted}", wanted,
                    "Download or export it again.")


def _is_text(head: bytes) -> bool:
    return bool(head) and sum(b in b"\t\n\r" or 32 <= b < 127 for b in head) > 0.95 * len(head)


def first_bytes(path: Path, n: int = 600) -> bytes:
    """The first bytes of a file, unpacked when gzip; a broken gzip gives what could be had."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:2] != b"\x1f\x8b":
        return head[:n]
    try:
        return zlib.decompressobj(wbits=31).decompress(head, n)
    except zlib.error:
        return b""


def kind_of(head: bytes) -> str | None:
    """dicom, nifti, metaimage, nrrd, zip, tar or None, by the first 600 bytes."""
    if head[128:132] == b"DICM" or _is_bare_dicom(head):
        return "dicom"
    if head[:4] == b"PK\x03\x04":
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    if head[:7] == b"NRRD000":
        return "nrrd"
    if head.lstrip()[:10] in (b"ObjectType", b"NDims = 3\n", b"NDims = 4\n"):
        return "metaimage"
    sizes = {head[:4], head[:4][::-1]}
    if (348).to_bytes(4, "little") in sizes or (540).to_bytes(4, "little") in sizes:
        return "nifti"
    return None


def _is_bare_dicom(head: bytes) -> bool:
    """An old export without preamble: starts with group 2 or 8, then a VR or a small length."""
    if len(head) < 16 or head[:4] not in (b"\x02\x00\x00\x00", b"\x02\x00\x01\x00", b"\x08\x00\x00\x00",
                                          b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x08\x00\x16\x00"):
        return False
    return head[4:6].isalpha() or int.from_bytes(head[4:8], "little") < 1024


def _unpack(path: Path, name: str, kind: str, found: Findings, scratch: Path, depth: int) -> None:
    """The regular members of an archive, under names of ours, into `scratch`."""
    if depth > 1:
        found.ignored["archive within an archive within an archive"] += 1
        return
    folder = scratch / f"archive-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    inside = Findings()
    try:
        _unpack_into(folder, path, name, kind, inside, scratch, depth)
    except BadInput as problem:
        found.refused.append(problem)
        return
    found.add(inside)
    found.ignored["archive, opened"] += 1


def _unpack_into(folder: Path, path: Path, name: str, kind: str, inside: Findings, scratch: Path, depth: int) -> None:
    """All of an archive or BadInput: what a broken one gave before it broke might be half a series."""
    limit = _Limit(min(MAX_UNPACKED, MAX_RATIO * max(path.stat().st_size, 2**20)))
    members = _zip_members if kind == "zip" else _tar_members
    try:
        for member, source in members(path, inside):
            target = folder / _safe_name(member)
            limit.copy(source, target)
            _sort_in(target, f"{name}/{member}", inside, scratch, depth + 1)
    except BadInput:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        raise BadInput("broken_archive", f"the {kind} archive is truncated, corrupt or locked", "a readable archive",
                       "Copy it again, or unpack it yourself.") from error


def _safe_name(member: str) -> str:
    """A name of ours that keeps only known suffixes; a header and its image keep one stem."""
    low = PurePosixPath(member.replace("\\", "/")).name.lower()
    suffix = next((s for s in sorted([*_SUFFIXES, ".img", ".raw", ".zraw"], key=len, reverse=True)
                   if low.endswith(s)), "")
    stem = member.replace("\\", "/")
    return hashlib.sha256(stem[: len(stem) - len(suffix)].encode()).hexdigest()[:16] + suffix


@dataclass
class _Limit:
    """Copies streams and refuses the byte that is one too many."""

    left: int
    n_files: int = 0

    def copy(self, source: IO[bytes], target: Path) -> None:
        self.n_files += 1
        with target.open("wb") as out:
            while block := source.read(2**20):
                self.left -= len(block)
                if self.left < 0 or self.n_files > MAX_FILES:
                    raise BadInput("too_large", "the archive unpacks to far more than its size", "an archive of images",
                                   "It may be a decompression bomb; unpack it yourself if you trust it.")
                out.write(block)


def _zip_members(path: Path, found: Findings) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in sorted(archive.infolist(), key=lambda i: i.filename):
            mode = info.external_attr >> 16
            if info.is_dir():
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                found.ignore("archive member that is no regular file")
                continue
            with archive.open(info) as source:
                yield info.filename, source


def _tar_members(path: Path, found: Findings) -> Iterator[tuple[str, Any]]:
    with tarfile.open(path, mode="r:*") as archive:
        for info in archive:
            if info.isdir():
                continue
            source = archive.extractfile(info) if info.isreg() else None
            if source is None:
                found.ignore("archive member that is no regular file")
                continue
            yield info.name, source
