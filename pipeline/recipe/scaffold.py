"""The text of a new recipe."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UsageError
from pipeline.recipe.json_schema import FILE_NAME
from pipeline.recipe.layers import Layer
from pipeline.recipe.mistakes import Mark, Mistake, Origin
from pipeline.recipe.nodes import Entry, MapNode, ScalarNode
from pipeline.recipe.plain_scalars import quote_if_needed
from pipeline.recipe.validate import validate_layers

_TEMPLATE = """\
# yaml-language-server: $schema={schema}
# `trtllm-pack recipes schema > {schema_name}` writes the schema that editors read; then
# `trtllm-pack plan` on this file shows what it leads to, every default included.

name: {name}

source:
{source}
checkpoint:
  dtype: auto # the source's; or bfloat16, float16, float32
  tp_size: 1 # GPUs that share each layer
  pp_size: 1 # GPUs that share the layers between them

engine:
  backend: tensorrt # or trtllm (TensorRT-LLM's own), onnxruntime (runs on any CPU)
  max_batch_size: 8
  max_input_len: 1024 # longest prompt, in tokens
  max_seq_len: 2048 # longest prompt plus output, in tokens
  targets: [sm89] # every GPU architecture that the engine is to run on

smoke:
  max_new_tokens: 16
  prompts:
    - text: The capital of France is
      expect: {{min_tokens: 1}} # better: {{contains: Paris}}

# Changes under a name, chosen by `--variant cpu`:
variants:
  cpu: {{engine: {{backend: onnxruntime}}}}
"""


def new_recipe(
    name: str, *, repo: str | None = None, path: str | None = None, schema: str = FILE_NAME
) -> str:
    """The text of a recipe for a repo or a local folder, which loads as it is.

    `schema` is the path of the JSON schema relative to the new file. Raises UsageError where
    `name`, `repo` or `path` are not what a recipe may have, or not one of the two is given.
    """
    source = {key: value for key, value in (("repo", repo), ("path", path)) if value is not None}
    _check(name, source)
    comments = {
        "repo": "  # Pin the commit with `revision:`; `plan` prints the one that is meant now.\n",
        "path": "  # Relative to this file.\n",
    }
    lines = [f"{comments[key]}  {key}: {quote_if_needed(value)}\n" for key, value in source.items()]
    return _TEMPLATE.format(
        schema=schema, schema_name=FILE_NAME, name=quote_if_needed(name), source="".join(lines)
    )


def _check(name: str, source: dict[str, str]) -> None:
    """Validate as a recipe would be, with the command line as the place of every mistake."""
    mark = Mark(Origin("recipes init", is_file=False), 0, 0)
    entries = {key: Entry(mark, ScalarNode(mark, value, value)) for key, value in source.items()}
    recipe = {
        "name": Entry(mark, ScalarNode(mark, name, name)),
        "source": Entry(mark, MapNode(mark, entries)),
    }
    _, mistakes = validate_layers([Layer(MapNode(mark, recipe), base_dir=Path(), kind="file")])
    if mistakes:
        raise UsageError(
            f"`{name}` cannot be made a recipe", facts=[_state(mistake) for mistake in mistakes]
        )


def _state(mistake: Mistake) -> str:
    return f"{mistake.message}; {mistake.hint}" if mistake.hint else mistake.message
