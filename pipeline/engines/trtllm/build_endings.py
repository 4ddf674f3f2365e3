"""What an unsuccessful end of `trtllm-build` means: by its log first, then by its exit code."""

from __future__ import annotations

from pipeline.engines.exit_codes import KILLED, how_ended
from pipeline.engines.trtllm.follow import BuildLog
from pipeline.engines.trtllm.request import PROGRAM
from pipeline.errors import PipelineError, ResourceError, ToolFailed

_WRONG_COMMAND_LINE = 2
"""Exit code of Python's argparse."""

_LESS_LIMITS = (
    "lower `engine.max_batch_size` or `engine.max_num_tokens`, or raise `checkpoint.tp_size`"
)
_MORE_MEMORY = "build on a machine with more memory, or raise the container's limit"


def build_failure(code: int | None, log: BuildLog, timeout_s: float) -> PipelineError:
    """The error of a build that ended with this exit code, with the last lines of its log.

    `code` None: it was stopped at its time limit.
    """
    facts = log.tail()
    if code is None:
        return ToolFailed(
            f"`{PROGRAM}` had not finished after {timeout_s:.0f} s and was stopped",
            facts=facts,
            hint="set a longer `engine.build_timeout_s`",
        )
    shortage = _shortage(code, log)
    if shortage is not None:
        message, hint = shortage
        return ResourceError(message, facts=facts, hint=hint)
    if code == _WRONG_COMMAND_LINE:
        return ToolFailed(
            f"`{PROGRAM}` does not know its command line",
            facts=facts,
            hint="`trtllm-pack doctor` compares its options with what is known of 1.2",
        )
    if log.aborts:
        return ToolFailed(
            "the attention plugin of TensorRT-LLM refuses these options",
            facts=[*log.aborts, *facts],
            hint="`trtllm-pack plan` says what is known of dtypes, head sizes and GPUs",
        )
    return ToolFailed(f"`{PROGRAM}` failed with {how_ended(code)}", facts=facts)


def _shortage(code: int, log: BuildLog) -> tuple[str, str] | None:
    """Message and hint where memory or disk was wanting.

    A rank's process that is gone without a word was most likely killed; one that said why, by an
    assertion of the plugin, was not.
    """
    if log.is_out_of_memory:
        return "the GPU ran out of memory while the engine was built", _LESS_LIMITS
    if log.is_out_of_disk:
        hint = "free some space, or name a store on a larger disk by `--store`"
        return "the disk was full while the engine was written", hint
    if code in KILLED:
        return f"`{PROGRAM}` was killed, most likely for want of memory", _MORE_MEMORY
    if log.has_lost_rank and not log.aborts:
        message = f"a rank's process of `{PROGRAM}` was killed, most likely for want of memory"
        return message, "lower `engine.workers`, or build on a machine with more memory"
    return None
