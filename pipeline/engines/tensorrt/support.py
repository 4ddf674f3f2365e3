"""Whether TensorRT can compile a decoder with fused attention, and by which way it says it.

Judged by `facts` and the graph's own reading of the checkpoint, without any build.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.engines.engine import TargetSupport
from pipeline.engines.tensorrt.api import Flavour
from pipeline.engines.tensorrt.facts import (
    ANY_LENGTH,
    DTYPE_TARGETS,
    FACTS,
    ONE_TOKEN,
    RTX_TARGETS,
    SOURCE,
)
from pipeline.graph.config import decoder_of
from pipeline.graph.description import Attention, Experts, LatentAttention
from pipeline.recipe.schema import EngineSettings
from pipeline.wording import counted

Site = Attention | LatentAttention


def generation_tokens(config: Mapping[str, Json], settings: EngineSettings) -> int:
    """Most tokens of a generation step: 1 where fused kernels are made for that, else 2.

    With 2 the number of tokens is dynamic, so that the kernels of any length serve.
    """
    decoder = decoder_of(config)
    sites = decoder.attentions.values() if decoder else ()
    return 1 if all(_fits_one_token(site, settings.max_seq_len) for site in sites) else 2


def _fits_one_token(site: Site, max_seq_len: int) -> bool:
    most = ONE_TOKEN.max_slots_and_head
    fits = most is None or max_seq_len + site.key_size <= most
    return site.num_attention_heads >= ONE_TOKEN.min_heads and fits


def why_not_fused(config: Mapping[str, Json]) -> str | None:
    """Why no fused attention kernel exists for this model on any target, or None."""
    dtype, decoder = config["dtype"], decoder_of(config)
    if dtype not in ANY_LENGTH.dtypes:
        return f"no fused attention kernel exists for {dtype}"
    sites = decoder.attentions.values() if decoder else ()
    return next((reason for site in sites if (reason := _why_not_site(site)) is not None), None)


def _why_not_site(site: Site) -> str | None:
    """One layer's attention, whatever its dtype. Smaller values are padded to their keys."""
    head_size, heads = max(site.key_size, site.value_size), site.num_attention_heads
    if site.softcap is not None:
        return "soft-capped attention cannot be said to TensorRT but by plain operators"
    if head_size not in ANY_LENGTH.head_sizes:
        sizes = ANY_LENGTH.head_sizes
        return (
            f"no fused attention kernel exists for head size {head_size}, only for multiples of "
            f"{sizes.step} from {sizes[0]} to {sizes[-1]}"
        )
    if heads < ANY_LENGTH.min_heads:
        return f"no fused attention kernel exists for {heads} attention head"
    return None


def ways(config: Mapping[str, Json], settings: EngineSettings) -> list[str]:
    """How the parts of this model are said for which ONNX or TensorRT have no layer, for a plan."""
    decoder = decoder_of(config)
    if decoder is None:
        return []
    sites, most = list(decoder.attentions.values()), settings.max_seq_len
    found = {
        "softcap": sum(site.softcap is not None for site in sites),
        "alibi": sum(site.alibi is not None for site in sites),
        "window": sum((site.window or most) < most for site in sites),
        "value_size": sum(site.value_size != site.key_size for site in sites),
        "experts": sum(isinstance(layer.mlp, Experts) for layer in decoder.layers),
    }
    capped = bool(found["softcap"])
    return [_way(kind, count, capped=capped) for kind, count in found.items() if count]


def _way(kind: str, layers: int, *, capped: bool) -> str:
    """`capped`: soft-capping alone says what becomes of attention."""
    fact = FACTS[kind]
    fused = "" if capped else "; attention stays fused"
    told = {True: fused, False: "; attention is not fused", None: ""}
    return f"{fact.what} ({counted(layers, 'layer')}): {fact.way}{told[fact.fused]}"


def attention_support(
    config: Mapping[str, Json], settings: EngineSettings, flavour: Flavour | None
) -> list[TargetSupport]:
    """For each target: fused or not, and how that is known."""
    return [_support(config, settings, flavour, target) for target in settings.targets]


def _support(
    config: Mapping[str, Json], settings: EngineSettings, flavour: Flavour | None, target: str
) -> TargetSupport:
    reason = why_not_fused(config)
    if reason is not None:
        return {"target": target, "fused": False, "reason": f"{reason} ({SOURCE})"}
    if not settings.attention.context_fmha:
        return {"target": target, "fused": False, "reason": "the recipe turns it off"}
    if target not in RTX_TARGETS or (flavour is not None and not flavour.is_rtx):
        return {"target": target, "fused": None, "reason": "the builder will tell"}
    if target not in DTYPE_TARGETS[config["dtype"]]:
        reason = f"{target} has no {config['dtype']} ({SOURCE})"
        return {"target": target, "fused": False, "reason": reason}
    told = f"{config['dtype']}, {_head_sizes(config)} ({SOURCE})"
    return {"target": target, "fused": True, "reason": told}


def _head_sizes(config: Mapping[str, Json]) -> str:
    """`head size 64`, or all sizes where layers differ."""
    decoder = decoder_of(config)
    sites = decoder.attentions.values() if decoder else ()
    sizes = sorted({max(site.key_size, site.value_size) for site in sites})
    listed = ", ".join(str(size) for size in sizes)
    return f"head size {listed}" if len(sizes) == 1 else f"head sizes {listed}"
