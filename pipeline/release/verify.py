"""Checks a release, folder or tar: every byte, the manifest, and the fit to this machine.

The manifest is the root of trust: it digests itself, names every other file with its SHA-256, and
`SHA256SUMS` follows from it. So one changed byte has one place, and that place is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import __version__
from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import listed, parse_object, printable
from pipeline.errors import VerificationError
from pipeline.hardware import Hardware
from pipeline.progress import Progress, Silent
from pipeline.release.contents import Contents, open_contents, understanding
from pipeline.release.digests import SUMS_NAME, digest_all, encode_sums, parse_sums
from pipeline.release.fit import Fit, fit_machine
from pipeline.release.graph_check import check_graph
from pipeline.release.manifest import MANIFEST_NAME, META_NAMES, ReleaseManifest, decode
from pipeline.release.tar import tar_order
from pipeline.release.triton import ENGINE_CONFIG, triton_serving
from pipeline.release.triton_check import check_repository
from pipeline.system.refusals import file_error


@dataclass(frozen=True, slots=True)
class ReleaseReport:
    """A sound release, and whether its engine runs on this machine."""

    path: Path
    form: str
    num_files: int
    size_bytes: int
    manifest: ReleaseManifest
    fit: Fit

    def document(self) -> dict[str, Json]:
        """For machines."""
        return {
            "path": str(self.path),
            "name": self.manifest.name,
            "form": self.form,
            "sound": True,
            "num_files": self.num_files,
            "size_bytes": self.size_bytes,
            "licence": self.manifest.licence.model_dump(mode="json"),
            "fit": asdict(self.fit),
        }

    def text(self) -> str:
        """For people."""
        licence = ", ".join(self.manifest.licence.files) or self.manifest.licence.status
        holder = "model" if self.manifest.engine.get("backend") == "pytorch" else "engine"
        size = f"{self.num_files} files, {self.size_bytes:,} bytes"
        lines = [
            f"{self.manifest.name}: sound ({size}, each with the SHA-256 of the manifest)",
            f"  licence  {licence}",
            f"  {holder:<8} {'runs here' if self.fit.runs else 'cannot run here'}",
        ]
        return "\n".join(lines + [f"           {reason}" for reason in self.fit.reasons])


def verify_release(
    path: Path, hardware: Hardware, progress: Progress | None = None
) -> ReleaseReport:
    """Check a release folder or tar; every file is read once.

    Raises UsageError where nothing is at `path`, VerificationError that lists every file that is
    missing, extra or changed, MachineError where one cannot be read. Whether the engine runs on
    this machine is a fact of the report.
    """
    try:
        contents = open_contents(path)
        digests = digest_all(contents.files, progress or Silent())
    except OSError as error:
        raise file_error(error, error.filename or path, "cannot be read") from None
    manifest, faults = _decode_manifest(contents)
    if manifest is None:
        faults += _check_against_sums(contents, digests)
    else:
        faults += _check_root(manifest, contents)
        faults += _check_files(manifest, contents, digests)
        faults += _check_sums(manifest, contents, digests)
    stated = [
        f"the blob of `{name}` is changed: SHA-256 {digests[name]}, its layer states {digest}"
        for name, digest in sorted(contents.stated.items())
        if digests[name] != digest
    ]
    faults = [*contents.faults, *stated, *faults]
    if faults or manifest is None:
        raise VerificationError(
            f"the release `{path}` is damaged",
            facts=listed(faults),
            hint="fetch it again, or make it again from its recipe",
        )
    with understanding(path):
        check_graph(manifest.engine, contents)
        _check_triton(manifest, contents)
        fit = fit_machine(manifest, hardware)
    size_bytes = sum(extent.size_bytes for extent in contents.files.values())
    return ReleaseReport(path, contents.form, len(contents.files), size_bytes, manifest, fit)


def _decode_manifest(contents: Contents) -> tuple[ReleaseManifest | None, list[str]]:
    if MANIFEST_NAME not in contents.files:
        return None, [f"`{MANIFEST_NAME}` is missing"] if contents.complete else []
    try:
        return decode(contents.files[MANIFEST_NAME].read()), []
    except VerificationError as error:
        return None, [error.message, *error.facts]


def _check_triton(manifest: ReleaseManifest, contents: Contents) -> None:
    """Every byte is as it was packed; a Triton model repository must also fit the engine."""
    serving = triton_serving(manifest.recipe)
    if serving is None:
        return
    if ENGINE_CONFIG not in contents.files:
        raise VerificationError(
            f"`{contents.path}` has a Triton model repository, but no `{ENGINE_CONFIG}`"
        )
    faults = check_repository(
        parse_object(contents.files[ENGINE_CONFIG].read(), ENGINE_CONFIG),
        serving,
        frozenset(contents.files),
        lambda name: contents.files[name].read(),
        same_version=manifest.lock.tools.get("trtllm-pack") == __version__,
    )
    if faults:
        raise VerificationError(
            f"the Triton model repository of `{contents.path}` does not fit its engine",
            facts=faults,
            hint="make the release again from its recipe",
        )


def _check_root(manifest: ReleaseManifest, contents: Contents) -> list[str]:
    if contents.root in {None, manifest.name}:
        return []
    return [f"the top folder of the tar is `{contents.root}`, expected `{manifest.name}`"]


def _check_files(
    manifest: ReleaseManifest, contents: Contents, digests: Mapping[str, str]
) -> list[str]:
    """Every file but the two that list the others, against a sound manifest."""
    expected = {file.path: file.sha256 for file in manifest.files}
    faults = _compare(expected, contents, digests)
    folders = {name for name in tar_order(contents.files) if name.endswith("/")}
    extra = sorted(contents.folders - folders)
    return faults + [f"`{name}` is a folder without files" for name in extra]


def _check_sums(
    manifest: ReleaseManifest, contents: Contents, digests: Mapping[str, str]
) -> list[str]:
    """`SHA256SUMS` follows from a sound manifest."""
    if SUMS_NAME not in contents.files:
        return [f"`{SUMS_NAME}` is missing"] if contents.complete else []
    expected = {file.path: file.sha256 for file in manifest.files}
    expected[MANIFEST_NAME] = digests[MANIFEST_NAME]
    wanted, extent = encode_sums(expected), contents.files[SUMS_NAME]
    if extent.size_bytes != len(wanted):
        return [f"`{SUMS_NAME}` has {extent.size_bytes} bytes, expected {len(wanted)}"]
    pairs = zip(extent.read().split(b"\n"), wanted.split(b"\n"), strict=False)
    number = next((number for number, (line, right) in enumerate(pairs, 1) if line != right), None)
    if number is None:
        return []
    return [f"`{SUMS_NAME}` is changed: line {number} disagrees with the manifest"]


def _check_against_sums(contents: Contents, digests: Mapping[str, str]) -> list[str]:
    """Without a sound manifest, `SHA256SUMS` still tells which other files are as they were."""
    extent = contents.files.get(SUMS_NAME)
    sums = parse_sums(extent.read()) if extent is not None else None
    if sums is None:
        state = "missing" if extent is None else "changed"
        return [f"`{SUMS_NAME}` is {state}, so no other file can be checked"]
    return _compare(
        {name: digest for name, digest in sums.items() if name != MANIFEST_NAME}, contents, digests
    )


def _compare(
    expected: Mapping[str, str], contents: Contents, digests: Mapping[str, str]
) -> list[str]:
    """Missing, changed and extra files, each by name."""
    faults = []
    for name in sorted(set(expected) | set(digests) - META_NAMES):
        told = printable(name, 300)
        if name not in digests:
            # In a tar that could not be listed to its end, nobody knows.
            faults += [f"`{told}` is missing"] if contents.complete else []
        elif name not in expected:
            faults.append(f"`{told}` is not in the manifest")
        elif digests[name] != expected[name]:
            faults.append(
                f"`{told}` is changed: SHA-256 {digests[name]}, expected {expected[name]}"
            )
    return faults
