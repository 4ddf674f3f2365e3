#!/bin/bash
set -e
MODEL_NAME=${MODEL_NAME:-"Qwen/Qwen2.5-1.5B-Instruct"}
OUTPUT_DIR="./engines/qwen2.5-1.5b"
CHECKPOINT_DIR="./checkpoints/qwen2.5-1.5b"
DTYPE="float16"
MAX_BATCH_SIZE=8
MAX_INPUT_LEN=1024
MAX_OUTPUT_LEN=512

echo "[1/3] Converting checkpoint..."
python3 /app/tensorrt_llm/examples/qwen/convert_checkpoint.py \
    --model_dir ${MODEL_NAME} \
    --output_dir ${CHECKPOINT_DIR} \
    --dtype ${DTYPE} \
    --tp_size 1  # one GPU

echo "[2/3] Building TensorRT engine..."
trtllm-build \
    --checkpoint_dir ${CHECKPOINT_DIR} \
    --output_dir ${OUTPUT_DIR} \
    --gemm_plugin auto \
    --max_batch_size ${MAX_BATCH_SIZE} \
    --max_input_len ${MAX_INPUT_LEN} \
    --max_output_len ${MAX_OUTPUT_LEN} \
    --max_beam_width 1 \
    --gpt_attention_plugin ${DTYPE} \
    --remove_input_padding enable \
    --paged_kv_cache enable \
    --use_custom_all_reduce disable
