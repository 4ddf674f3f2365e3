#!/bin/bash
set -euo pipefail
MODEL_DIR=/models/Mistral-7B-Instruct-v0.3
BUILD_ARGS=(
  --gemm_plugin auto
  --max_batch_size 16
  --max_input_len 2048
  --max_seq_len 4096
)
BUILD_ARGS+=(--use_paged_context_fmha enable)
python3 convert_checkpoint.py --model_dir "$MODEL_DIR" --output_dir /ckpt/mistral --dtype bfloat16
trtllm-build --checkpoint_dir /ckpt/mistral --output_dir /engine/mistral "${BUILD_ARGS[@]}" "$@"
