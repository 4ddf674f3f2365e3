#!/bin/bash
if [ "$GPU" = "a100" ]; then
  BATCH=64
else
  BATCH=8
fi
python3 convert_checkpoint.py --model_dir /models/yi-6b --output_dir /ckpt/yi --dtype bfloat16
trtllm-build --checkpoint_dir /ckpt/yi --output_dir /engine/yi --max_batch_size $BATCH --max_input_len 1024 --max_seq_len 2048 --gemm_plugin auto
