#!/bin/bash
cat > config.txt <<EOF
trtllm-build --max_batch_size 999 "not a command
EOF
(cd /work && python3 convert_checkpoint.py --model_dir nvidia/Nemotron-Mini-4B-Instruct --dtype bfloat16 --output_dir ckpt)
(cd /work && trtllm-build --checkpoint_dir ckpt --output_dir engine --max_batch_size 8 --max_input_len 1024 --max_seq_len 2048 > build.log 2>&1) || exit 1
