"""What a release holds, in whatever form it came: its files as byte ranges, nothing extracted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.checkpoint.strict_json import listed, printable
from pipeline.errors import UsageError, VerificationError
from pipeline.files.regular import open_regular
from pipeline.release.digests import SUMS_NAME, Extent
from pipeline.release.folder_reader import list_folder
from pipeline.release.manifest import MANIFEST_NAME, ReleaseManifest, decode
from pipeline.release.oci_reader import LAYOUT_NAME, is_layout, read_layout
from pipeline.release.plain_tar import first_name, scan_plain_tar
from pipeline.release.tar import BLOCK, tar_order
from pipeline.release.tar_reader import REPACKED_HINT, TarScan, scan_tar

COMPRESSED: Mapping[bytes, tuple[str, str]] = {
    b"\x1f\x8b": ("compressed by gzip", "`gunzip --keep FILE`"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "`unzstd FILE`"),
    b"\xfd7zXZ\0": ("compressed by xz", "`unxz --keep FILE`"),
    b"BZh": ("compressed by bzip2", "`bunzip2 --keep FILE`"),
    b"PK\x03\x04": ("a zip archive", "`unzip FILE`"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "`7z x FILE`"),
}
"""First bytes of files that hold a tar or its files, what they are, and what unpacks them."""

COMPRESSED_SUFFIXES = frozenset({".gz", ".tgz", ".zst", ".xz", ".bz2", ".zip", ".7z"})


@dataclass(frozen=True, slots=True)
class Contents:
    """Files by relative name, folders (with a final `/`), and what is structurally wrong.

    `root` is the one folder that a tar holds; None for a release folder, which may be renamed.
    `form` is `folder`, `tar`, or `oci` for an OCI layout, a folder or a tar; `stated` are then the
    SHA-256 that its layers state. Not `complete`: a damaged tar could not be listed to its end.
    """

    path: Path
    root: str | None
    files: Mapping[str, Extent]
    folders: frozenset[str]
    faults: tuple[str, ...]
    complete: bool = True
    form: str = "folder"
    stated: Mapping[str, str] = field(default_factory=dict)


_RELEASE_HINT = "name a release folder or its tar"


def is_release(path: Path) -> bool:
    """Whether a path looks like a release: a folder with its manifest or sums, an OCI layout, or a
    tar; also a tar that was compressed, to say that it must not be."""
    if path.is_dir():
        return any((path / name).is_file() for name in (MANIFEST_NAME, SUMS_NAME, LAYOUT_NAME))
    return path.suffix == ".tar" or path.suffix.lower() in COMPRESSED_SUFFIXES


def open_contents(path: Path) -> Contents:
    """List a release. Raises UsageError where nothing is there, VerificationError for others."""
    if not path.exists():
        raise UsageError(f"`{path}` does not exist", hint=_RELEASE_HINT)
    if path.is_file():
        return _open_file(path)
    if not path.is_dir():
        raise UsageError(f"`{path}` is neither a file nor a folder", hint=_RELEASE_HINT)
    if not is_release(path):
        inside = sorted(entry.name for entry in path.iterdir() if is_release(entry))
        raise VerificationError(
            f"`{path}` is not a release: it has no `{MANIFEST_NAME}`",
            hint=f"name `{path / inside[0]}`, which is inside it" if inside else _RELEASE_HINT,
        )
    scan = list_folder(path)
    if is_layout(scan.files):
        return _of_layout(path, scan)
    folders, faults = frozenset(scan.folders), tuple(scan.faults)
    return Contents(path, None, scan.files, folders, faults, scan.complete)


def read_manifest(path: Path) -> tuple[ReleaseManifest, Contents]:
    """The manifest alone; no other file is read. Raises VerificationError where it is damaged."""
    contents = open_contents(path)
    if contents.faults:
        faults = listed(list(contents.faults))
        raise VerificationError(f"`{path}` is not sound", facts=faults, hint=REPACKED_HINT)
    if MANIFEST_NAME not in contents.files:
        raise VerificationError(f"`{path}` has no `{MANIFEST_NAME}`")
    return decode(contents.files[MANIFEST_NAME].read()), contents


@contextmanager
def understanding(path: Path) -> Iterator[None]:
    """Read the records of a release or an engine: whoever made it may have written anything there.

    Raises VerificationError where a record is of another form than this version writes.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = printable(f"{type(error).__name__}: {error}", 200)
        raise VerificationError(
            f"the records of `{path}` are not of the form that this version knows",
            facts=[reason],
            hint="use the version of trtllm-pack that wrote them",
        ) from None


def _open_file(path: Path) -> Contents:
    with open_regular(path) as stream:
        head = stream.read(BLOCK)
    for start, (told, command) in COMPRESSED.items():
        if head.startswith(start):
            raise VerificationError(
                f"`{path}` is {told}; a release is a folder or a tar as it is",
                hint=f"unpack it, {command.replace('FILE', str(path))}, and verify what comes out",
            )
    if head and b"\0" not in head:  # which every header has, whatever is damaged in it
        raise VerificationError(f"`{path}` is neither a release nor a tar", hint=_RELEASE_HINT)
    first = (first_name(path) or "").partition("/")[0]
    if first in {"", ".", "blobs", "ingest", "index.json", LAYOUT_NAME}:
        scan = scan_plain_tar(path)
        if is_layout(scan.files):
            return _of_layout(path, scan)
    return _of_tar(path, scan_tar(path))


def _of_layout(path: Path, scan: TarScan) -> Contents:
    release = read_layout(scan.files, scan.folders)
    folders = frozenset(name for name in tar_order(release.files) if name.endswith("/"))
    faults = (*scan.faults, *release.faults)
    return Contents(
        path, None, release.files, folders, faults, scan.complete, "oci", release.digests
    )


def _of_tar(path: Path, scan: TarScan) -> Contents:
    roots = Counter(name.partition("/")[0] for name in scan.files)
    # Where a name is damaged, the folder of the other files is the right one.
    root = roots.most_common(1)[0][0] if roots else ""
    faults = list(scan.faults)
    if len(roots) != 1 and not faults:
        faults.append(f"it has {len(roots)} entries at its top, expected one folder")
    prefix = f"{root}/"
    return Contents(
        path,
        root,
        {name.removeprefix(prefix): extent for name, extent in scan.files.items()},
        frozenset(name.removeprefix(prefix) for name in scan.folders if name != prefix),
        tuple(faults),
        scan.complete,
        "tar",
    )
