"""The originals of the fixtures of remote code, made equivalent out of transformers' modules.

Which functions the published code computes was read in it; a class of transformers that computes
the same gets the tensors under its own names and cuts. What no class computes is exchanged in one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from tests.parity.equivalents_chatglm import chatglm
from tests.parity.equivalents_gpt import falcon_refinedweb, mpt_grouped, santacoder
from tests.parity.equivalents_layered import deci, decilm, deepseek
from tests.parity.equivalents_llama import (
    baichuan_alibi,
    baichuan_rotary,
    exaone,
    internlm2,
    qwen,
    same_names,
)
from tests.parity.equivalents_mup import jais, phi3_small
from tests.parity.references import Original

EQUIVALENTS: Mapping[str, Callable[[Path], Original]] = MappingProxyType(
    {
        "baichuan-7b": lambda folder: baichuan_rotary(folder, normalised=False),
        "baichuan-13b": lambda folder: baichuan_alibi(folder, normalised=False),
        "baichuan2": lambda folder: baichuan_rotary(folder, normalised=True),
        "baichuan2-13b": lambda folder: baichuan_alibi(folder, normalised=True),
        "chatglm2": chatglm,
        "chatglm3": chatglm,
        "chatglm3-32k": chatglm,
        "glm4-9b": chatglm,
        "deci": deci,
        "decilm-7b": decilm,
        "deepseek": deepseek,
        "exaone": exaone,
        "exaone-3.5-tied": exaone,
        "falcon-refinedweb-40b": falcon_refinedweb,
        "falcon-refinedweb-7b": falcon_refinedweb,
        "internlm": same_names,
        "internlm2": internlm2,
        "jais": jais,
        "jais-family": jais,
        "mpt-gqa": mpt_grouped,
        "phi3small": phi3_small,
        "phi3small-128k": phi3_small,
        "qwen": qwen,
        "santacoder": santacoder,
        "skywork": same_names,
    }
)
