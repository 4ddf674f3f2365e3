#!/bin/bash
MODEL_DIR=/models/qwen
CHECKPOINT_DIR=/data/checkpoint
MAX_BATCH_SIZE=4
MAX_INPUT_LEN=1024
MAX_OUTPUT_LEN=256
TRTLLM_IMAGE=nvcr.io/nvidia/tritonserver:24.08-trtllm-python-py3
docker run --rm --gpus all -v "$MODEL_DIR:/model:ro" $TRTLLM_IMAGE \
    python3 /examples/qwen/convert_checkpoint.py \
        --model_dir /model --output_dir /checkpoint --dtype float16 --tp_size 1
docker run --rm --gpus all -v "$CHECKPOINT_DIR:/checkpoint" $TRTLLM_IMAGE \
    trtllm-build \
        --checkpoint_dir /checkpoint \
        --output_dir /engine \
        --gemm_plugin float16 \
        --gpt_attention_plugin float16 \
        --context_fmha disable \
        --max_batch_size $MAX_BATCH_SIZE \
        --max_input_len $MAX_INPUT_LEN \
        --max_seq_len $((MAX_INPUT_LEN + MAX_OUTPUT_LEN)) \
        --paged_kv_cache enable \
        --remove_input_padding enable
