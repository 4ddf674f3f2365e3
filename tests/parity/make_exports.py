"""Makes the ONNX files of `tests/inspection/exports`: real exports of tiny models.

    python -m tests.parity.make_exports        needs torch, onnxscript, onnxruntime-genai

Names say the model, the opset and the exporter: `dynamo` and `tracer` (`dynamo=False`) are torch's,
`genai` is onnxruntime-genai's model builder. Stack traces and comments are taken out of the files:
they hold paths of the machine. All else is as the exporter wrote it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

FOLDER = Path(__file__).parent.parent / "inspection" / "exports"
TOOLS = ("torch", "onnxscript", "onnxruntime-genai", "transformers", "onnx")
HIDDEN, HEADS, SIZE = 32, 2, 16


def attention(kind: str) -> Any:
    """A module of one attention in float16: SDPA with no, a causal or a bool mask, or eager."""
    import torch
    from torch.nn import functional

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = torch.nn.Linear(HIDDEN, 3 * HIDDEN)
            self.out = torch.nn.Linear(HIDDEN, HIDDEN)

        def forward(self, x: Any, mask: Any = None) -> Any:
            b, s, _ = x.shape
            q, k, v = self.qkv(x).view(b, s, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4)
            if kind == "eager":
                scores = torch.matmul(q, k.transpose(2, 3)) * SIZE**-0.5 + mask
                attended = torch.matmul(functional.softmax(scores, dim=-1), v)
            else:
                attended = functional.scaled_dot_product_attention(
                    q, k, v, attn_mask=mask, is_causal=kind == "causal"
                )
            return self.out(attended.transpose(1, 2).reshape(b, s, HIDDEN))

    torch.manual_seed(3)
    return Attention().half().eval()


def export(kind: str, opset: int, exporter: str, path: Path) -> None:
    """One module by torch's exporter."""
    import torch

    x = torch.randn(2, 8, HIDDEN).half()
    masks = {"bool": torch.ones(2, 1, 8, 8).bool(), "eager": torch.zeros(2, 1, 8, 8).half()}
    inputs = (x, masks[kind]) if kind in masks else (x,)
    names = ["x", "mask"][: len(inputs)]
    dynamo = {"dynamo": True, "external_data": False, "verbose": False}
    options = dynamo if exporter == "dynamo" else {"dynamo": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            attention(kind), inputs, path, opset_version=opset, input_names=names, **options
        )


def llama() -> Any:
    """A decoder of two layers, with grouped heads."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    sizes = {"vocab_size": 64, "hidden_size": HIDDEN, "intermediate_size": 48, "head_dim": SIZE}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(**sizes, **layers, max_position_embeddings=64, eos_token_id=1)
    return LlamaForCausalLM(config).half().eval()


def export_llama(opset: int, path: Path) -> None:
    """The decoder by torch's exporter, without a cache."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = llama()

        def forward(self, input_ids: Any) -> Any:
            return self.model(input_ids=input_ids, use_cache=False).logits

    options = {"dynamo": True, "external_data": False, "verbose": False}
    ids = torch.ones(1, 8, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Logits().eval(), (ids,), path, opset_version=opset, **options)


def export_genai(path: Path) -> None:
    """The decoder by onnxruntime-genai, for CUDA in float16, its weights put into the file."""
    import subprocess

    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    folder = path.parent / "genai"
    llama().save_pretrained(folder / "source")
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder / "source")
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", "fp16", "-e", "cuda"]
    command += ["-i", str(folder / "source"), "-o", str(folder / "out"), "-c", str(folder / "c")]
    subprocess.run(command, check=True)
    onnx.save(onnx.load(folder / "out" / "model.onnx"), path)


def exports() -> Iterator[tuple[str, Any]]:
    """File name -> what makes it."""
    modules = [("plain", 18, "dynamo"), ("bool", 18, "dynamo"), ("eager", 18, "dynamo")]
    modules += [("plain", 18, "tracer"), ("bool", 18, "tracer"), ("causal", 20, "dynamo")]
    modules += [("bool", 23, "dynamo"), ("causal", 24, "dynamo")]
    for kind, opset, exporter in modules:
        name = f"{kind}-{opset}-{exporter}.onnx"
        yield name, lambda path, a=(kind, opset, exporter): export(*a, path)
    for opset in (18, 23):
        yield f"llama-{opset}-dynamo.onnx", lambda path, o=opset: export_llama(o, path)
    yield "llama-genai.onnx", export_genai


def without_paths(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model less stack traces and comments."""
    graphs: list[Any] = [model, model.graph, *model.functions]
    for graph in list(graphs[1:]):
        graphs += graph.node
    graphs += [*model.graph.input, *model.graph.output, *model.graph.value_info]
    graphs += model.graph.initializer
    for part in graphs:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    return model


def main() -> None:
    """Write all files and the versions that made them."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, make in exports():
            made = Path(folder) / name
            make(made)
            data = without_paths(onnx.load(made)).SerializeToString(deterministic=True)
            (FOLDER / name).write_bytes(data)
    versions = {tool: version(tool) for tool in TOOLS}
    (FOLDER / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
