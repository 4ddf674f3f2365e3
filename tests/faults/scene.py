"""Where campaigns play: the shipped recipe, what an undisturbed run of it makes, and places for
the runs that are disturbed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.files.digests import digest_file
from tests.faults.warm import Ended, Job, Orders, Running

SHIPPED = Path(__file__).parent.parent.parent / "recipes"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Options for the shipped recipe; what makes its release another one, for a place in which an
    earlier one stands; and the hub that it needs, if any (`served`)."""

    options: tuple[str, ...]
    earlier: tuple[str, ...] = (
        *("--set", "smoke.prompts=[{text: Four score and}]"),
        *("--set", "smoke.max_new_tokens=4"),
    )
    hub: str | None = None


_CPU = ("--variant", "cpu")
RECIPES = {
    "cpu": Recipe(_CPU),
    "cpu-tp2": Recipe((*_CPU, "--set", "checkpoint.tp_size=2", "--max-memory", "10")),
    "cpu-pp2": Recipe((*_CPU, "--set", "checkpoint.pp_size=2")),
    "tensorrt": Recipe(()),
    "pytorch": Recipe(
        (
            *("--set", "package.kind=pytorch"),
            *("--set", "engine.attention.require_fused=false"),
        ),
        earlier=("--set", "engine.max_batch_size=2"),
    ),
    "hub": Recipe((*_CPU, "--set", "source={repo: acme/demo}"), hub="huggingface"),
    "modelscope": Recipe(
        (*_CPU, "--set", "source={hub: modelscope, repo: acme/demo}"), hub="modelscope"
    ),
}
"""ONNX Runtime for speed, two ranks, a builder in a child, a package without an engine, sources
that are downloaded."""

RUNS = re.compile(r"runs/[0-9]+-demo\.json")
"""The run records, whose names are times."""

Tree = Mapping[str, str]
"""Relative path -> BLAKE3 of every file below a folder."""


def read_tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, and every empty folder with an empty digest."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink():
            found[name] = digest_file(path) if path.stat().st_size else ""
        elif path.is_symlink() or not any(path.iterdir()):
            found[name] = ""
    return found


def store_listing(store: Path) -> set[str]:
    """What lies in a store by name, times and the artifacts' own files left out."""
    names = {path.relative_to(store).as_posix() for path in store.rglob("*")}
    return {name for name in names if not name.startswith("artifacts/") and not RUNS.match(name)}


@dataclass(frozen=True, slots=True)
class Reference:
    """What an undisturbed run leaves: release, artifacts, names in the store, calls, seconds."""

    out: Tree
    artifacts: Tree
    listing: frozenset[str]
    calls: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Place:
    """A store and an output folder, both of one round alone."""

    folder: Path

    @property
    def store(self) -> Path:
        """The artifact store."""
        return self.folder / "store"

    @property
    def out(self) -> Path:
        """Where releases are placed; an earlier one may stand there."""
        return self.folder / "out" / "release"

    @property
    def temporary(self) -> Path:
        """TMPDIR of the runs."""
        return self.folder / "tmp"

    @property
    def home(self) -> Path:
        """HOME of the runs."""
        return self.folder / "home"

    @property
    def hub_cache(self) -> Path:
        """HF_HOME of the runs."""
        return self.folder / "hf"

    def job(
        self,
        scene: Scene,
        *more: str,
        name: str = "job",
        out: Path | None = None,
        limits: Mapping[int, int] | None = None,
    ) -> Job:
        """A full run of the scene's recipe here, with further arguments, into `out`."""
        arguments = [*("run", str(scene.recipe)), *scene.options, *more]
        arguments += ["--store", str(self.store), "--out", str(out or self.out)]
        environment = scene.environment
        return self.command(*arguments, name=name, limits=limits, environment=environment)

    def command(
        self,
        *arguments: str,
        name: str = "job",
        limits: Mapping[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Job:
        """Any command here, under limits as of `resource.setrlimit`."""
        environment = {
            **(environment or {}),
            "HF_HOME": str(self.hub_cache),
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "NO_COLOR": "1",
            "COLUMNS": "100",
        }
        folder = self.folder / "jobs" / name
        return Job(arguments, folder, self.folder, environment, limits or {})


@dataclass(frozen=True, slots=True)
class Scene:
    """One recipe with its options, in a folder of its own; `earlier` is a release of another.

    Those who play side by side have places in folders of their own, `lane`.
    """

    folder: Path
    made_of: Recipe
    reference: Reference
    earlier: Tree
    environment: Mapping[str, str] = field(default_factory=dict)
    lane: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """Of every run."""
        return self.made_of.options

    @property
    def stages(self) -> set[str]:
        """Those that make an artifact."""
        return {name.partition("/")[0] for name in self.reference.artifacts}

    @property
    def recipe(self) -> Path:
        """A copy of the shipped recipe, beside its checkpoint."""
        return self.folder / "recipes" / "demo.yaml"

    def new_place(self, name: str = "round", *, with_earlier: bool = True) -> Place:
        """A fresh place instead of the one of that name; an earlier release stands in it."""
        place = Place(self.folder / self.lane / name)
        shutil.rmtree(place.folder, ignore_errors=True)
        place.temporary.mkdir(parents=True)
        place.home.mkdir()
        place.out.parent.mkdir()
        if with_earlier:
            self.put_earlier(place)
        return place

    def put_earlier(self, place: Place) -> None:
        """Let the earlier release stand in a place, instead of what is there."""
        shutil.rmtree(place.out, ignore_errors=True)
        shutil.copytree(self.folder / "earlier" / "out" / "release", place.out)

    def copy_of(self, place: Place) -> Place:
        """The same files in another place, its jobs left out."""
        copy = Place(place.folder.with_name(place.folder.name + "-copy"))
        shutil.rmtree(copy.folder, ignore_errors=True)
        shutil.copytree(place.folder, copy.folder, ignore=shutil.ignore_patterns("jobs"))
        return copy

    def forget(self, place: Place) -> None:
        """Remove a place in which nothing was found wrong."""
        shutil.rmtree(place.folder)


def make_scene(
    folder: Path, recipe: Recipe = RECIPES["cpu"], environment: Mapping[str, str] | None = None
) -> Scene:
    """Copy the recipe, and run it undisturbed: once for an earlier release, once for the one."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(SHIPPED / "demo", folder / "recipes" / "demo", dirs_exist_ok=True)
    shutil.copy(SHIPPED / "demo.yaml", folder / "recipes")
    none = Reference({}, {}, frozenset(), 0, 0.0)
    bare = Scene(folder, recipe, none, {}, environment or {})
    earlier = bare.new_place("earlier", with_earlier=False)
    _must_succeed(Running(earlier.job(bare, *recipe.earlier)).wait())
    place = bare.new_place("undisturbed", with_earlier=False)
    first = _must_succeed(Running(place.job(bare)).wait())
    reference = Reference(
        read_tree(place.out),
        read_tree(place.store / "artifacts"),
        frozenset(store_listing(place.store)),
        0,
        first.seconds,
    )
    return replace(bare, reference=reference, earlier=read_tree(earlier.out))


def with_calls(scene: Scene) -> Scene:
    """The scene with the number of calls that a whole run makes; needs the tracer."""
    place = scene.new_place("counted")
    ended = _must_succeed(Running(place.job(scene), Orders(lambda call: None, place.folder)).wait())
    assert ended.trace is not None
    calls = max(call.number for call in ended.trace.calls)
    return replace(scene, reference=replace(scene.reference, calls=calls))


def _must_succeed(ended: Ended) -> Ended:
    if ended.code != 0:
        raise RuntimeError(f"an undisturbed run failed, {ended.told()}")
    return ended
