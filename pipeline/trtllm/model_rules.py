"""Rules of models: classes, pipelines, positions, context parallelism."""

from __future__ import annotations

from pipeline.trtllm.rules import Rule

NOT_PIPELINED = (
    "BaichuanForCausalLM",
    "BloomForCausalLM",
    "ChatGLMForCausalLM",
    "GPTJForCausalLM",
    "GPTNeoXForCausalLM",
    "MPTForCausalLM",
    "OPTForCausalLM",
    "Phi3ForCausalLM",
    "PhiForCausalLM",
)
"""Model classes whose forward pass neither sends nor receives (1.3.0rc3 `models/*/model.py`)."""

_ATTENTION = "TensorRT-LLM `layers/attention.py`"
_ROPE = "TensorRT-LLM `functional.py`, RopeEmbeddingUtils"

MODEL_RULES = (
    Rule(
        name="architecture-unknown",
        effect="refused",
        when="model_class == None",
        keys=("engine.backend",),
        says="`{model[architecture]}` is not in TensorRT-LLM's map of engine classes",
        fix="use `engine.backend: onnxruntime` or `tensorrt`, or TensorRT-LLM's PyTorch backend",
        source="TensorRT-LLM `models/__init__.py`, MODEL_MAP",
        sure="1.x",
    ),
    Rule(
        name="no-pipeline",
        effect="refused",
        when=f"pp_size > 1 and model_class in {NOT_PIPELINED}",
        keys=("checkpoint.pp_size",),
        says="`checkpoint.pp_size` is {pp_size}, but TensorRT-LLM's class `{model_class}` neither "
        "sends nor receives between ranks",
        fix="set `pp_size: 1`, and `tp_size` for several GPUs",
        source="TensorRT-LLM `models/*/model.py`, forward",
        sure="1.3rc3",
    ),
    Rule(
        name="dynamic-rope-without-alpha",
        effect="refused",
        when="rope_type == 'dynamic'"
        " and ('alpha' not in model.rotary_scaling or model.rotary_scaling.alpha == None)",
        keys=("engine.backend",),
        says="the checkpoint scales its rope dynamically by `factor`, but TensorRT-LLM requires an "
        "`alpha` as well",
        fix="convert it anew: `trtllm-pack convert` adds `alpha: 1`, which changes nothing",
        source=_ROPE,
        sure="1.3rc3",
    ),
    Rule(
        name="rope-type-unknown",
        effect="refused",
        when="rope_type != None and rope_type not in ('default', 'none', 'linear', 'dynamic',"
        " 'longrope', 'su', 'llama3', 'yarn', 'mrope')",
        keys=("engine.backend",),
        says="the model scales its rope by `{rope_type}`, which TensorRT-LLM does not know",
        fix="use another model",
        source="TensorRT-LLM `functional.py`, RotaryScalingType",
        sure="1.3rc3",
    ),
    Rule(
        name="yarn-attention-factor",
        effect="refused",
        when="rope_type == 'yarn' and 'attention_factor' in model.rotary_scaling"
        " and model.rotary_scaling.attention_factor != None",
        keys=("engine.backend",),
        says="the model's yarn scaling has an `attention_factor`, which TensorRT-LLM ignores: it "
        "works out its own",
        fix="remove `attention_factor` from the source's config where it is "
        "`0.1 * ln(factor) + 1`; else use `engine.backend: onnxruntime` or `tensorrt`",
        source=f"{_ATTENTION}, create_attention_const_params",
        sure="1.3rc3",
    ),
    Rule(
        name="yarn-not-truncated",
        effect="refused",
        when="rope_type == 'yarn' and 'truncate' in model.rotary_scaling"
        " and model.rotary_scaling.truncate == False",
        keys=("engine.backend",),
        says="the model's yarn scaling has `truncate: false`, which TensorRT-LLM ignores: it "
        "always truncates",
        fix="use `engine.backend: onnxruntime` or `tensorrt`",
        source=_ROPE,
        sure="1.3rc3",
    ),
    Rule(
        name="context-parallel-experts",
        effect="refused",
        when="cp_size > 1 and moe_ep_size > 1",
        keys=("checkpoint.cp_size", "checkpoint.moe_ep_size"),
        says="`checkpoint.cp_size` is {cp_size} and `checkpoint.moe_ep_size` {moe_ep_size}, which "
        "TensorRT-LLM does not combine",
        fix="set one of them to 1",
        source="TensorRT-LLM `mapping.py`",
        sure="1.x",
    ),
    Rule(
        name="context-parallel-beams",
        effect="refused",
        when="cp_size > 1 and max_beam_width > 1",
        keys=("engine.max_beam_width", "checkpoint.cp_size"),
        says="`checkpoint.cp_size` is {cp_size}, with which there is no beam search "
        "(`engine.max_beam_width` is {max_beam_width})",
        fix="remove `max_beam_width`, or set `cp_size: 1`",
        source="TensorRT-LLM `gptAttentionPlugin.cpp`",
        sure="1.3rc3",
    ),
    Rule(
        name="context-parallel-padded",
        effect="refused",
        when="cp_size > 1 and not remove_input_padding",
        keys=("engine.remove_input_padding", "checkpoint.cp_size"),
        says="`checkpoint.cp_size` is {cp_size}, which is there for packed input alone",
        fix="remove `remove_input_padding: false`",
        source="TensorRT-LLM `models/modeling_utils.py`, DecoderModelForCausalLM",
        sure="1.3rc3",
    ),
)
