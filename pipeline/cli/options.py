"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UsageError

RecipeArg = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")]
PathArg = Annotated[Path, typer.Argument(metavar="PATH")]
SetOpt = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key; may be repeated."),
]
VariantOpt = Annotated[
    str | None, typer.Option("--variant", help="Use this variant of the recipe.")
]
StoreOpt = Annotated[
    Path | None,
    typer.Option(
        "--store",
        envvar="TRTLLM_PACK_STORE",
        help="Artifact store (default: the user's cache).",
        readable=False,  # what the system refuses is told in our own words
    ),
]
SharedOpt = Annotated[
    list[Path] | None,
    typer.Option(
        "--shared-store",
        envvar="TRTLLM_PACK_SHARED_STORES",
        metavar="DIR",
        help="A store of others, read where the own one has nothing; may be repeated.",
    ),
]
StoreLimitOpt = Annotated[
    str | None,
    typer.Option(
        "--store-limit",
        envvar="TRTLLM_PACK_STORE_LIMIT",
        metavar="SIZE",
        help="After the run, delete what was not used for longest until the store takes no more.",
    ),
]
OutOpt = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Also place the artifact in this folder, instead of an earlier one there.",
        readable=False,
    ),
]
OfflineOpt = Annotated[bool, typer.Option("--offline", help="Make no network request.")]
FrozenOpt = Annotated[
    bool,
    typer.Option(
        "--frozen",
        help="Require the recipe's lock file, and refuse whatever differs from it (exit code 6).",
    ),
]
LockTimeoutOpt = Annotated[
    float,
    typer.Option(
        "--lock-timeout", min=0.0, help="Seconds to wait for a process that makes the same."
    ),
]
MaxMemoryOpt = Annotated[
    int | None,
    typer.Option(
        "--max-memory",
        min=1,
        metavar="MB",
        help="Memory that converting may use beyond the interpreter's own, in MB (default: 256).",
    ),
]
ExplainOpt = Annotated[
    str | None,
    typer.Option(
        "--explain",
        metavar="TENSOR",
        help="Convert nothing; print from which source bytes each rank makes this tensor.",
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
QuietOpt = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
DebugOpt = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def store_folder(path: Path | None) -> Path:
    """The folder of the artifact store, absolute: what `--store` says, else the user's cache.

    Raises UsageError where its name is not UTF-8, which engine builders cannot be given.
    """
    if path is None:
        from platformdirs import user_cache_path

        path = user_cache_path("trtllm-pack")
    path = path.absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"the path of the store, `{ascii(str(path))[1:-1]}`, is not UTF-8",
            hint="name another folder; where the name is right, set a locale: `LC_ALL=C.UTF-8`",
        ) from None
    return path
