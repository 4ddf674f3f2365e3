"""`cache`: what the store holds, whether it is sound, and what of it may go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answering import Mode, answering
from pipeline.cli.options import DebugOpt, JsonOpt, StoreOpt, store_folder
from pipeline.errors import MachineError, UsageError, VerificationError

cache_app = typer.Typer(help="Look into the artifact store, check it, and clear it.")

WantedArg = Annotated[
    str | None,
    typer.Argument(metavar="[STAGE/]KEY", help="The beginning of an artifact's key is enough."),
]
MaxSizeOpt = Annotated[
    str | None,
    typer.Option(
        "--max-size",
        metavar="SIZE",
        help="Delete what was not used for longest until the artifacts take no more (`500GB`).",
    ),
]
OlderOpt = Annotated[
    str | None,
    typer.Option(
        "--older-than", metavar="AGE", help="Delete artifacts not used for so long (`30d`, `12h`)."
    ),
]
DryRunOpt = Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")]
DeleteOpt = Annotated[bool, typer.Option("--delete", help="Delete the artifacts that are damaged.")]


@cache_app.command(name="ls")
def list_(store: StoreOpt = None, as_json: JsonOpt = False, debug: DebugOpt = False) -> None:
    """List artifacts: sizes, ages, what each was made of and what needs it."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.cli.cache_text import listing_document, listing_text
        from pipeline.console import printable
        from pipeline.store.catalogue import list_artifacts

        root = _existing(store)
        document = listing_document(root, list_artifacts(root))
        console.result(document, printable(listing_text(document)))


@cache_app.command()
def path(
    wanted: WantedArg = None,
    store: StoreOpt = None,
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Print the folder of the store, or of one artifact."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.store.catalogue import find_entry, list_artifacts

        root = _existing(store)
        found = root if wanted is None else find_entry(list_artifacts(root), wanted).path
        console.result({"path": str(found)}, str(found))


@cache_app.command()
def gc(
    max_size: MaxSizeOpt = None,
    older_than: OlderOpt = None,
    dry_run: DryRunOpt = False,
    store: StoreOpt = None,
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Delete what dead processes left, and the artifacts that `--max-size`, `--older-than` name.

    What a process at work may need stays.
    """
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.cli.cache_text import collected_document, collected_text
        from pipeline.console import printable
        from pipeline.store.amounts import parse_bytes, parse_seconds
        from pipeline.store.collection import Policy, collect

        policy = Policy(
            max_age_s=None if older_than is None else parse_seconds(older_than, "`--older-than`"),
            max_bytes=None if max_size is None else parse_bytes(max_size, "`--max-size`"),
        )
        found = collect(_existing(store), policy, dry_run=dry_run)
        document = collected_document(found, dry_run=dry_run)
        console.result(document, printable(collected_text(document)))
        if found.refused:
            raise typer.Exit(MachineError.exit_code)


@cache_app.command()
def verify(
    wanted: WantedArg = None,
    delete: DeleteOpt = False,
    store: StoreOpt = None,
    as_json: JsonOpt = False,
    debug: DebugOpt = False,
) -> None:
    """Read every byte of all artifacts, or of one, and compare it with what was published."""
    with answering(Mode(json=as_json, debug=debug)) as console:
        from pipeline.cli.cache_text import ASKED_NOT, checked_document, checked_text
        from pipeline.console import printable
        from pipeline.store.catalogue import find_entry, list_artifacts
        from pipeline.store.checking import check_artifacts
        from pipeline.store.collection import discard

        root = _existing(store)
        entries = list_artifacts(root)
        if wanted is not None:
            entries = [find_entry(entries, wanted)]
        with console.watching() as observer:
            checked = check_artifacts(entries, observer.work_started("cache"))
        damaged = [each.entry for each in checked if each.faults]
        kept = {entry.name: discard(root, entry) if delete else ASKED_NOT for entry in damaged}
        document = checked_document(checked, kept)
        console.result(document, printable(checked_text(document)))
        if any(kept.values()):
            raise typer.Exit(VerificationError.exit_code)


def _existing(store: Path | None) -> Path:
    """The folder of the store, which may be missing: then it is empty. Raises UsageError."""
    root = store_folder(store)
    if root.exists() and not root.is_dir():
        raise UsageError(f"`{root}` is not a folder", hint="name the store by `--store`")
    return root
