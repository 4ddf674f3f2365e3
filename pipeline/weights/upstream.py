"""Which architectures TensorRT-LLM 1.2 itself knows, for error messages."""

from __future__ import annotations

# Keys of `MODEL_MAP` that are text decoders (TensorRT-LLM 1.2, `tensorrt_llm/models/__init__.py`).
DECODERS = frozenset(
    {
        *("ArcticForCausalLM", "BaiChuanForCausalLM", "BaichuanForCausalLM", "BloomForCausalLM"),
        *("ChatGLMForCausalLM", "ChatGLMForConditionalGeneration", "ChatGLMModel"),
        *("CogVLMForCausalLM", "CohereForCausalLM", "DbrxForCausalLM", "DeciLMForCausalLM"),
        *("DeepseekForCausalLM", "DeepseekV2ForCausalLM", "ExaoneForCausalLM"),
        *("FalconForCausalLM", "FuyuForCausalLM", "GLMModel", "GPT2LMHeadCustomModel"),
        *("GPT2LMHeadModel", "GPTBigCodeForCausalLM", "GPTForCausalLM", "GPTJForCausalLM"),
        *("GPTNeoXForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "GemmaForCausalLM"),
        *("GraniteForCausalLM", "GraniteMoeForCausalLM", "Grok1ModelForCausalLM"),
        *("InternLM2ForCausalLM", "InternLMForCausalLM", "InternLMXComposer2ForCausalLM"),
        *("JAISLMHeadModel", "Kosmos2ForConditionalGeneration", "LlamaForCausalLM"),
        *("LlavaLlamaModel", "MPTForCausalLM", "MambaForCausalLM", "MistralForCausalLM"),
        *("MixtralForCausalLM", "MptForCausalLM", "NemotronForCausalLM", "OPTForCausalLM"),
        *("Phi3ForCausalLM", "Phi3SmallForCausalLM", "Phi3VForCausalLM", "Phi4MMForCausalLM"),
        *("PhiForCausalLM", "PhiMoEForCausalLM", "QWenForCausalLM", "QWenLMHeadModel"),
        *("Qwen2ForCausalLM", "Qwen2ForSequenceClassification", "Qwen2MoeForCausalLM"),
        *("Qwen2VLForConditionalGeneration", "Qwen2VLModel", "Qwen3ForCausalLM"),
        *("Qwen3MoeForCausalLM", "RWForCausalLM", "RecurrentGemmaForCausalLM"),
        *("SkyworkForCausalLM", "Starcoder2ForCausalLM"),
    }
)
