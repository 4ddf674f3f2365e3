"""What must hold at every instant, and what at the end of a run, whatever happened before."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.artifact import MANIFEST_NAME
from pipeline.files.digests import digest_file
from tests.faults.calls import NOT_FILES, Trace, is_below
from tests.faults.scene import Place, Scene, read_tree, store_listing


def broken_at_any_instant(scene: Scene, place: Place) -> list[str]:
    """Torn artifacts, a release that is neither the earlier nor the new one, strangers."""
    found = []
    for folder in sorted(place.store.glob("artifacts/*/*")):
        found += _torn(folder)
    out = read_tree(place.out) if place.out.exists() else {}
    if out not in (scene.earlier, scene.reference.out):
        found.append(f"the release in `{place.out}` is neither the earlier nor the new one: {out}")
    expected = {"store", "out", "tmp", "home", "jobs", "hf"}
    found += [f"`{each}` is new" for each in place.folder.iterdir() if each.name not in expected]
    found += [f"`{each}` was written" for each in place.home.rglob("*")]
    return found


def _torn(folder: Path) -> list[str]:
    """What is wrong with a published folder: it must be just what its manifest says."""
    try:
        document = json.loads((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError) as error:
        return [f"`{folder}` is published without a manifest: {error}"]
    entries = {entry["path"]: entry["blake3"] for entry in document["files"]}
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    files.pop(MANIFEST_NAME, None)
    changed = [name for name, path in files.items() if digest_file(path) != entries.get(name)]
    missing = sorted(entries.keys() - files.keys())
    return [f"`{folder}` is torn: {changed} differ, {missing} missing"] if changed + missing else []


def broken_at_the_end(scene: Scene, place: Place) -> list[str]:
    """After a run that succeeded: another release, other artifacts, leftovers of runs before."""
    found = broken_at_any_instant(scene, place)
    out = read_tree(place.out)
    if out != scene.reference.out:
        found.append(f"the release differs in {_difference(out, scene.reference.out)}")
    artifacts = read_tree(place.store / "artifacts")
    if artifacts != scene.reference.artifacts:
        difference = _difference(artifacts, scene.reference.artifacts)
        found.append(f"the artifacts differ in {difference}")
    left = sorted(
        name
        for name in store_listing(place.store) - scene.reference.listing
        if not _may_stay(place.store / name)
    )
    if left:
        found.append(f"left in the store: {left}")
    beside = [each.name for each in place.out.parent.iterdir() if each != place.out]
    if beside:
        found.append(f"left beside the release: {beside}")
    temporary = [str(each) for each in place.temporary.rglob("*")]
    if temporary:
        found.append(f"left in the folder for temporary files: {temporary}")
    return found


def _may_stay(path: Path) -> bool:
    """The empty folder of `cache gc`; what was hashed, where a run came upon a file that another
    had fetched; a session file that does not say whose it is, which is swept once it was silent for
    half a minute."""
    if path.is_dir():
        return path.name == "trash" and not any(path.iterdir())
    if path.name == "digests.sqlite":
        return True
    return path.parent.name == "sessions" and path.stat().st_size == 0


def _difference(one: object, other: object) -> list[str]:
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    names = one.keys() | other.keys()
    return sorted(name for name in names if one.get(name) != other.get(name))


def written_outside(place: Place, trace: Trace) -> list[str]:
    """Paths that a run made, changed or removed, but for store, output and the hub client's cache.

    The output's own folder may hold names of ours while it runs, which begin with a dot. What a run
    asks of its TMPDIR is told too: nothing is to be written there.
    """
    beside = f"{place.out.parent}/.{place.out.name}"
    allowed = (place.store, place.out, place.hub_cache)
    paths = [
        path
        for path in trace.changed_paths()
        if not any(is_below(path, folder) for folder in allowed)
        and not path.startswith(beside)
        and path != str(place.out.parent)
        and not NOT_FILES.match(path)
    ]
    return [f"`{path}` was changed" for path in paths]
