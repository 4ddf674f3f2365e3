"""Merging, variants, overrides, and what a loaded recipe says about itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import FrameType

import pytest

from pipeline.errors import MachineError, RecipeError
from pipeline.recipe.load import load_all, load_recipe

REPOSITORY = Path(__file__).parents[2]


def _write(folder: Path, **texts: str) -> Path:
    """Files by their stems; returns the first one's path."""
    paths = []
    for stem, text in texts.items():
        paths.append(folder / f"{stem.replace('__', '/')}.yaml")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_text(text)
    return paths[0]


def test_the_least_recipe_has_every_default(tmp_path: Path) -> None:
    path = _write(tmp_path, x="name: no\nsource: {repo: owner/model}\n")
    loaded = load_recipe(path)
    assert loaded.recipe.name == "no"
    assert loaded.recipe.engine.backend == "trtllm"
    assert loaded.recipe.checkpoint.dtype == "auto"
    assert loaded.document == {"name": "no", "source": {"repo": "owner/model"}}
    assert (loaded.path, loaded.files, loaded.variant, loaded.variants) == (path, (path,), None, ())
    assert loaded.base_dir == tmp_path


def test_layers_win_in_their_order(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        child="extends: parents/middle.yaml\nname: child\nengine: {max_batch_size: 3}\n"
        "variants: {v: {engine: {max_seq_len: 4003}}}\n",
        parents__middle="extends: top.yaml\nengine: {max_batch_size: 2, max_input_len: 1002}\n"
        "variants: {v: {engine: {max_seq_len: 4002, max_input_len: 1004}}, w: {name: w}}\n",
        parents__top="name: top\nsource: {repo: owner/model}\n"
        "engine: {max_batch_size: 1, max_input_len: 1001, max_seq_len: 4001, targets: [sm80]}\n",
    )
    plain = load_recipe(path)
    assert plain.variants == ("v", "w")
    assert plain.files == (path, tmp_path / "parents/middle.yaml", tmp_path / "parents/top.yaml")
    engine = plain.recipe.engine
    assert (engine.max_batch_size, engine.max_input_len, engine.max_seq_len) == (3, 1002, 4001)
    varied = load_recipe(path, variant="v")
    engine = varied.recipe.engine
    assert (engine.max_batch_size, engine.max_input_len, engine.max_seq_len) == (3, 1004, 4003)
    sets = ["engine.max_seq_len=5000", "engine={max_batch_size: 7}", "engine.max_seq_len=5001"]
    engine = load_recipe(path, variant="v", overrides=sets).recipe.engine
    assert (engine.max_batch_size, engine.max_input_len, engine.max_seq_len) == (7, 1004, 5001)
    assert load_recipe(path, variant="w").recipe.name == "w"
    assert varied.variant == "v"


def test_lists_replace(tmp_path: Path) -> None:
    text = (
        "name: x\nsource: {repo: owner/model}\nengine: {backend: tensorrt, targets: [sm80, sm89]}\n"
    )
    path = _write(tmp_path, x=text + "variants: {v: {engine: {targets: [sm120]}}}\n")
    assert load_recipe(path, variant="v").recipe.engine.targets == ("sm120",)
    prompts = ["smoke.prompts=[{text: a}, {text: 'b, c', expect: {contains: d}}]"]
    smoke = load_recipe(path, overrides=prompts).recipe.smoke
    assert [prompt.text for prompt in smoke.prompts] == ["a", "b, c"]


def test_another_backend_leaves_the_options_of_tensorrt_llm_behind(tmp_path: Path) -> None:
    text = "name: x\nsource: {repo: owner/model}\nengine: {gemm_plugin: auto, max_batch_size: 2}\n"
    path = _write(tmp_path, x=text + "variants: {cpu: {engine: {backend: onnxruntime}}}\n")
    engine = load_recipe(path, variant="cpu").recipe.engine
    assert (engine.gemm_plugin, engine.max_batch_size) == (None, 2)
    assert load_recipe(path).recipe.engine.gemm_plugin == "auto"
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, variant="cpu", overrides=["engine.gemm_plugin=auto"])
    assert "`onnxruntime` does not read" in caught.value.facts[0]


@pytest.mark.parametrize(
    ("child", "source"),
    [
        ("{path: ./m}", {"path": "./m"}),
        ("{repo: other/model}", {"repo": "other/model"}),
        ("{repo: owner/model}", {"repo": "owner/model", "revision": "v1"}),
        ("{revision: v2}", {"repo": "owner/model", "revision": "v2"}),
        ("{hub: modelscope}", {"repo": "owner/model", "hub": "modelscope"}),
        (
            "{hub: huggingface}",
            {"repo": "owner/model", "hub": "huggingface", "revision": "v1"},
        ),
    ],
)
def test_another_source_replaces_the_section(
    tmp_path: Path, child: str, source: dict[str, str]
) -> None:
    parent = "name: x\nsource: {repo: owner/model, revision: v1}\n"
    path = _write(tmp_path, x=f"extends: y.yaml\nsource: {child}\n", y=parent)
    assert load_recipe(path).document["source"] == source


def test_a_source_path_counts_from_the_file_that_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = _write(
        tmp_path,
        recipes__child="extends: ../shared/parent.yaml\nvariants: {here: {source: {path: ./m}}}\n",
        shared__parent="name: x\nsource: {path: ./m}\n",
    )
    shared = tmp_path / "shared"
    assert load_recipe(child).base_dir.resolve() == shared
    assert load_recipe(child, overrides=["name=y"]).base_dir.resolve() == shared
    assert load_recipe(child, variant="here").base_dir == tmp_path / "recipes"
    monkeypatch.chdir(tmp_path)
    by_set = load_recipe(child, variant="here", overrides=["source.path=./m"])
    assert by_set.base_dir.resolve() == tmp_path


def test_a_variant_of_a_parent_is_checked_with_the_child(tmp_path: Path) -> None:
    """The parent's variant is right by itself and wrong with the child's lengths."""
    path = _write(
        tmp_path,
        child="extends: parent.yaml\nengine: {max_input_len: 3000, max_seq_len: 4000}\n",
        parent="name: x\nsource: {repo: o/m}\nvariants: {short: {engine: {max_seq_len: 2000}}}\n",
    )
    load_recipe(tmp_path / "parent.yaml", variant="short")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.message == f"`{tmp_path / 'parent.yaml'}` has 1 mistake"
    assert "in variant `short`: `engine.max_input_len` is 3000" in caught.value.facts[0]


def test_a_document_is_json_and_itself_a_recipe(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        x="extends: y.yaml\n"
        "engine: {use_paged_context_fmha: false, attention: {require_fused: false}}\n",
        y="name: x\nsource: {repo: o/m}\n"
        "smoke: {temperature: 0.5, prompts: [{text: 日本 \U0001f600}]}\n",
    )
    loaded = load_recipe(path, overrides=["engine.attention.context_fmha=false"])
    again = tmp_path / "again.yaml"
    again.write_text(json.dumps(loaded.document, ensure_ascii=False), encoding="utf-8")
    assert load_recipe(again).recipe == loaded.recipe
    assert load_recipe(again).document == loaded.document


@pytest.mark.parametrize("value", ["{}", "[a]", "5", "null"])
def test_a_wrong_value_of_a_free_name_is_a_mistake(tmp_path: Path, value: str) -> None:
    """`source.remote_code` names files: no key of the schema is called so."""
    source = f"repo: a/b, revision: {'a' * 40}, remote_code: {{a.py: {value}}}"
    path = tmp_path / "r.yaml"
    path.write_text(f"name: x\nsource: {{{source}}}\nengine: {{backend: onnxruntime}}\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert "`source.remote_code.a.py` must be text" in error.value.facts[0]


def test_mistakes_are_capped(tmp_path: Path) -> None:
    many = "".join(f"k{number}: 1\n" for number in range(120))
    path = _write(tmp_path, x="name: x\nsource: {repo: o/m}\n" + many)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.message == f"`{path}` has 120 mistakes"
    assert len(caught.value.facts) == 51
    assert caught.value.facts[-1] == "... and more"


def test_too_many_variants_are_refused(tmp_path: Path) -> None:
    variants = "".join(f"  v{number}: {{}}\n" for number in range(201))
    path = _write(tmp_path, x="name: x\nsource: {repo: o/m}\nvariants:\n" + variants)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert "`variants` has 201 variants, more than 200" in caught.value.facts[0]


def test_a_recipe_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    _write(tmp_path, llama="name: x\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "lama.yaml")
    assert (
        caught.value.message
        == f"`{tmp_path / 'lama.yaml'}` cannot be read: no such file or directory"
    )
    assert caught.value.hint == f"did you mean `{tmp_path / 'llama.yaml'}`?"


def test_a_folder_is_refused_with_its_recipes(tmp_path: Path) -> None:
    _write(tmp_path, llama="name: x\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path)
    assert caught.value.message == f"`{tmp_path}` is a folder"
    assert caught.value.facts == (f"`{tmp_path / 'llama.yaml'}`",)


def test_a_file_that_may_not_be_read_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pipeline.recipe.recipe_file.open_regular", deny)
    with pytest.raises(MachineError) as caught:
        load_recipe(tmp_path / "x.yaml")
    assert caught.value.message == f"`{tmp_path / 'x.yaml'}` may not be read"


@pytest.mark.parametrize("name", ["\0.yaml", "a" * 300, "x.yaml/y.yaml"])
def test_a_parent_with_an_impossible_name_is_a_mistake(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path, x=f"extends: {json.dumps(name)}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert "cannot be read" in caught.value.facts[0]


@pytest.mark.parametrize("name", ["secret", ".secret", "secret.yaml.txt"])
def test_no_file_of_another_kind_is_shown(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("root:canary-of-the-parent\n")
    path = _write(tmp_path, x=f"extends: {json.dumps(str(tmp_path / name))}\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    told = "\n".join(error.value.facts)
    assert "has no name of a recipe" in told
    assert "canary" not in told


def test_surrogates_of_the_command_line_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, x="name: x\nsource: {repo: o/m}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides=["name=\udcff"])
    assert caught.value.facts[0].encode()  # fit for any terminal


def test_loading_is_fast() -> None:
    """In calls, which any machine counts alike: 42,000 are 5 ms where this was written."""
    path = REPOSITORY / "recipes/tinyllama-1.1b-chat.yaml"
    load_recipe(path)
    num_calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal num_calls
        num_calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        load_recipe(path, variant="turing", overrides=["engine.max_batch_size=2"])
    finally:
        sys.setprofile(None)
    assert 1000 < num_calls < 150_000


def test_loading_imports_nothing_heavy() -> None:
    program = (
        "import sys; from pathlib import Path; from pipeline.recipe.load import load_recipe;"
        "import pipeline.recipe.scaffold;"
        "load_recipe(Path('recipes/tinyllama-1.1b-chat.yaml')); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    packages = {name.split(".")[0] for name in done.stdout.split()}
    heavy = {"numpy", "rich", "typer", "onnx", "onnxruntime", "torch", "transformers"}
    assert not packages & (heavy | {"huggingface_hub", "jsonschema", "psutil", "ml_dtypes"})


def test_all_variants_are_loaded_as_each_alone(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        child="extends: parents/top.yaml\nname: child\nvariants: {b: {name: b}}\n",
        parents__top="name: top\nsource: {path: here}\nvariants: {a: {source: {repo: o/n}}}\n",
    )
    alone = [load_recipe(path), *(load_recipe(path, variant=name) for name in ("a", "b"))]
    assert list(load_all(path)) == alone
    path.write_text(path.read_text() + "wrong: 1\n")
    messages = []
    for load in (load_all, load_recipe):
        with pytest.raises(RecipeError) as caught:
            load(path)
        messages.append((caught.value.message, caught.value.facts))
    assert messages[0] == messages[1]
