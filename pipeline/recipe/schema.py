"""The recipe: one frozen, strict model per YAML section, one field per key.

Every field but `name` and `source` has a default, and no default depends on the machine, so that a
recipe means the same everywhere. The JSON schema for editors is generated from these models; what
a rule between keys says, and which keys it is about, is in `pipeline.recipe.rules`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from pipeline.recipe import remote_code_rules, rules, serving_rules
from pipeline.recipe.build_options import BuildOptions
from pipeline.recipe.section import PositiveInt, Section
from pipeline.recipe.smoke_section import Smoke
from pipeline.recipe.tensorrt_section import TensorRTOptions
from pipeline.recipe.verify_section import Verify

Dtype = Literal["bfloat16", "float16", "float32"]
Target = Annotated[str, StringConstraints(pattern=r"^sm(7[05]|8[0-9]|9[0-9]|1[0-2][0-9])$")]
RecipeName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$", max_length=100)
]


class Source(Section):
    """Where the checkpoint, in the Hugging Face layout, comes from: a repo or a local folder."""

    repo: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Repo on the hub, `owner/name`",
    )
    hub: Literal["huggingface", "modelscope"] = Field(
        "huggingface",
        description="Where the repo is: on the Hugging Face Hub or on ModelScope, whose repos of "
        "the same name have other commits",
    )
    revision: str | None = Field(
        None,
        pattern=r"^[!-~]+$",
        max_length=200,
        description="Commit, tag or branch of the repo; it is resolved to a commit once. "
        "Default: the repo's main branch",
    )
    endpoint: str | None = Field(
        None,
        pattern=r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$",
        max_length=120,
        description="Mirror of the Hugging Face Hub to fetch the repo from, `https://host`, in "
        "place of the client's own endpoint (`HF_ENDPOINT`). It gets no token",
    )
    path: str | None = Field(
        None,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Local folder, relative to the recipe file that names it",
    )
    remote_code: dict[str, str] = Field(
        default_factory=dict,
        description="SHA-256 of every Python file that the `auto_map` of the source's config.json "
        "needs, by its name: `verify.logits` executes these, and nothing else does. Needs a full "
        "commit as `revision`, or `path`",
        json_schema_extra={
            "propertyNames": {"pattern": remote_code_rules.NAME.pattern},
            "additionalProperties": {
                "type": "string",
                "pattern": remote_code_rules.SHA256.pattern,
            },
        },
    )

    @model_validator(mode="after")
    def _check(self) -> Source:
        rules.check_source(self.repo, self.revision, self.path, self.hub)
        rules.check_endpoint(self.endpoint, self.repo, self.hub)
        remote_code_rules.check_remote_code(self.remote_code, self.repo, self.revision)
        return self


class Checkpoint(Section):
    """The TensorRT-LLM checkpoint to write."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Storage type of the weights; `auto` keeps the source's"
    )
    tp_size: PositiveInt = Field(1, description="Tensor-parallel size")
    pp_size: PositiveInt = Field(1, description="Pipeline-parallel size")
    cp_size: PositiveInt = Field(
        1, description="Context-parallel size; its ranks share their weight files"
    )
    moe_tp_size: PositiveInt | None = Field(
        None, description="Ranks that share each expert. Default: `tp_size / moe_ep_size`"
    )
    moe_ep_size: PositiveInt | None = Field(
        None, description="Groups of ranks that have different experts. Default: 1"
    )
    use_parallel_embedding: bool = Field(
        False, description="Share the embedding among the tp ranks instead of repeating it"
    )
    embedding_sharding_dim: Literal[0, 1] = Field(
        0, description="Dim on which a parallel embedding is shared: 0 vocabulary, 1 hidden"
    )
    clamp: bool = Field(
        False,
        description="Where a cast would make values infinite, write the largest finite one, "
        "instead of failing",
    )
    quantization: Literal["none"] = Field("none", description="Quantization of the weights")

    @model_validator(mode="after")
    def _check(self) -> Checkpoint:
        rules.check_experts(self.tp_size, self.moe_tp_size, self.moe_ep_size)
        rules.check_embedding(self.use_parallel_embedding, self.embedding_sharding_dim)
        return self


class Attention(Section):
    """How attention is computed, and what must be proved about it."""

    context_fmha: bool = Field(
        True, description="Use the fused (flash) attention kernels in the context phase"
    )
    require_fused: bool = Field(
        True, description="Fail where fused attention is not proved, instead of falling back"
    )

    @model_validator(mode="after")
    def _check(self) -> Attention:
        rules.check_attention(self.context_fmha, self.require_fused)
        return self


TRTLLM_KEYS = frozenset(BuildOptions.model_fields)
"""Keys of `engine` that only the backend `trtllm` reads."""


class EngineSettings(BuildOptions):
    """The engine to build. The keys of `BuildOptions` are for the backend `trtllm` alone."""

    backend: Literal["trtllm", "tensorrt", "onnxruntime"] = Field(
        "trtllm", description="Engine backend; never guessed from the machine"
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="What executes an engine of the backend `onnxruntime`"
    )
    max_batch_size: PositiveInt = Field(8, description="Largest number of sequences in a batch")
    max_input_len: PositiveInt = Field(
        1024,
        description="Longest prompt, in tokens. Left out, at most half of a shorter `max_seq_len`",
    )
    max_seq_len: PositiveInt = Field(
        2048,
        description="Longest prompt plus output, in tokens. Left out, no more than the model's "
        "positions and, with `trtllm`, its attention window",
    )
    attention: Attention = Field(
        Attention(), description="How attention is computed, and what must be proved about it"
    )
    targets: Annotated[tuple[Target, ...], AfterValidator(rules.check_distinct)] = Field(
        ("sm90",),
        min_length=1,
        strict=False,
        description="GPU architectures that the engine must run on, e.g. `sm89`",
    )
    tensorrt: TensorRTOptions = Field(
        TensorRTOptions(), description="What only the backend `tensorrt` reads"
    )

    @model_validator(mode="before")
    @classmethod
    def _shorten_input(cls, given: Any) -> Any:
        """The default of `max_input_len` makes room for output in a short `max_seq_len`."""
        if not isinstance(given, dict) or "max_input_len" in given:
            return given
        seq_len = given.get("max_seq_len")
        if type(seq_len) is not int or not 1 < seq_len <= cls.model_fields["max_input_len"].default:
            return given
        return {**given, "max_input_len": seq_len // 2}

    @model_validator(mode="after")
    def _check(self) -> EngineSettings:
        rules.check_lengths(self.max_input_len, self.max_seq_len, self.backend)
        if self.backend != "onnxruntime":
            rules.check_device(self.backend, self.device)
        if self.backend != "tensorrt":
            rules.check_tensorrt_keys(self.backend, self.tensorrt.model_dump(exclude_defaults=True))
        if self.backend != "trtllm":
            fields = type(self).model_fields
            given = [key for key in fields if getattr(self, key) != fields[key].default]
            rules.check_backend_keys(self.backend, [key for key in given if key in TRTLLM_KEYS])
        return self

    @model_serializer(mode="wrap")
    def _own_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys that the backend does not read: they decide nothing."""
        document: dict[str, Any] = handler(self)
        if self.backend != "onnxruntime":
            document.pop("device", None)  # an `exclude` may have left it out
        if self.backend != "tensorrt":
            document.pop("tensorrt", None)
        if self.backend == "trtllm":
            return document
        return {key: value for key, value in document.items() if key not in TRTLLM_KEYS}


class Serving(Section):
    """How a release is meant to be served: Triton's model repository, or `serve.yaml`."""

    streaming: bool = Field(
        False, description="Triton sends tokens as they come (its decoupled mode); gRPC only"
    )
    kv_cache_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="Part of the GPU memory left after loading that the KV cache takes"
    )
    kv_cache_reuse: bool | None = Field(
        None, description="Keep the KV cache of common prompt beginnings. Default: where possible"
    )
    chunked_context: bool = Field(
        False, description="Compute long prompts in pieces, beside the tokens of other sequences"
    )
    triton_image: Annotated[str, StringConstraints(pattern=r"^\d\d\.(0[1-9]|1[0-2])$")] | None = (
        Field(None, description="Triton image line that serves it, `YY.MM`")
    )


class Package(Section):
    """The release."""

    kind: Literal["engine", "pytorch"] = Field(
        "engine",
        description="`engine`: a built engine; `pytorch`: the source checkpoint and the options of "
        "`trtllm-serve`, for TensorRT-LLM 1.3 and later, which have no engines",
    )
    formats: Annotated[
        tuple[Literal["tar", "triton"], ...], AfterValidator(rules.check_distinct)
    ] = Field(
        ("tar",),
        strict=False,
        description="`tar`: the release folder as one file; `triton`: a Triton model repository "
        "inside it (backend `trtllm`); an empty list leaves the folder alone",
    )
    serving: Serving = Field(Serving(), description="How the release is meant to be served")


class Recipe(Section):
    """A recipe with `extends`, `variants` and overrides applied: every key has its value."""

    name: RecipeName = Field(description="Name of the release")
    source: Source = Field(description="Where the Hugging Face checkpoint comes from")
    checkpoint: Checkpoint = Field(Checkpoint(), description="The TensorRT-LLM checkpoint to write")
    verify: Verify = Field(
        Verify(), description="What the checkpoint is held to beside the round trip"
    )
    engine: EngineSettings = Field(EngineSettings(), description="The engine to build")
    smoke: Smoke = Field(Smoke(), description="The smoke test of the built engine")
    package: Package = Field(Package(), description="The release")

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        serving_rules.check_triton(self.package, self.engine)
        return self
