"""The house rules that a machine can check: imports point one way, files stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pipeline"

# A module may import what stands left of it (in an earlier row), or its own row's same package.
ROWS = [
    {"wording"},
    {"errors", "progress"},
    {"system"},
    {"files", "installed"},
    {"redaction"},
    {"protected_streams"},
    {"artifact", "hardware"},
    {"placement"},
    {"formulas", "store"},
    {"trtllm"},
    {"recipe"},
    {"migration"},
    {"checkpoint"},
    {"sources"},
    {"onnx_files"},
    {"weights"},
    {"model_classes"},
    {"families"},
    {"graph"},
    {"engines"},
    {"parity"},
    {"plan_problems"},
    {"plan"},
    {"doctor"},
    {"tokenizer", "release"},
    {"pytorch_plan"},
    {"lock"},
    {"smoke_test"},
    {"stages"},
    {"inspection"},
    {"run"},
    {"progress_display", "run_record"},
    {"console"},
    {"answers"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}

# The same within `sources`: `__init__` opens what a recipe names.
SOURCE_ROWS = [
    {"copying", "crew", "listing", "names", "retry"},
    {"copies", "digest_memory", "http", "pin", "remote_code", "selection"},
    {"local", "remote"},
    {"hub", "modelscope"},
    {"__init__"},
]
SOURCE_RANK = {name: rank for rank, row in enumerate(SOURCE_ROWS) for name in row}

HEAVY = {
    "cuda",
    "huggingface_hub",
    "ml_dtypes",
    "numpy",
    "onnx",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx_bindings",
    "tensorrt_rtx_libs",
    "torch",
    "transformers",
}


def part_of(path: Path) -> str:
    """`weights` for pipeline/weights/rules.py, `plan` for pipeline/plan.py."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Parts of the package that a file imports anywhere, inside functions too."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        parts |= {name.split(".")[1] for name in names if name.startswith("pipeline.")}
    return {part for part in parts if part in RANK}


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_part_has_its_place() -> None:
    assert len(FILES) > 30
    assert {part_of(path) for path in FILES} - {"__init__"} == set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_left(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        assert not imported_parts(path)
        return
    wrong = {other for other in imported_parts(path) if other != part and RANK[other] >= RANK[part]}
    assert not wrong, f"{path} imports {wrong}, which stand right of `{part}`"


def test_imports_of_sources_point_left() -> None:
    folder = PACKAGE / "sources"
    found = set()
    for path in folder.rglob("*.py"):
        part = path.relative_to(folder).parts[0].removesuffix(".py")
        found.add(part)
        names = re.findall(r"from pipeline\.sources\.(\w+)", path.read_text(encoding="utf-8"))
        wrong = {name for name in names if name != part and SOURCE_RANK[name] >= SOURCE_RANK[part]}
        assert not wrong, f"{path} imports {wrong}, which stand right of `{part}`"
    assert found == set(SOURCE_RANK)


def test_stages_never_import_each_other() -> None:
    stages = {path.stem for path in (PACKAGE / "stages").glob("*.py")} - {"__init__", "stage"}
    assert len(stages) == 7
    for stage in stages:
        text = (PACKAGE / "stages" / f"{stage}.py").read_text(encoding="utf-8")
        imported = {
            node.module.rpartition(".")[2]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom) and node.module
            if node.module.startswith("pipeline.stages.")
        }
        assert imported <= {"stage"}, f"stage {stage} imports {imported}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def loaded_by(*arguments: str) -> set[str]:
    """Modules that a fresh interpreter has loaded after running the command line."""
    code = (
        "import sys\n"
        "from pipeline.cli import main\n"
        f"sys.argv = ['trtllm-pack', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "sys.stderr.write('LOADED ' + ' '.join(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=580
    )
    return set(done.stderr.rpartition("LOADED ")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("run", "--help"), ("--version",), ("recipes", "schema"), ("explain",)],
    ids=" ".join,
)
def test_light_commands_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(*arguments)
    assert "typer" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("command", ["ls", "path", "gc", "verify"])
def test_looking_into_the_store_loads_no_stages(tmp_path: Path, command: str) -> None:
    loaded = loaded_by("cache", command, "--store", str(tmp_path))
    assert "pipeline.console" in loaded
    assert not loaded & {"pipeline.run", "pipeline.stages", "pipeline.recipe", "pipeline.engines"}
