docker run --gpus all --rm -v "$(pwd)/models:/models" image bash -c "
    set -e
    python3 examples/llama/convert_checkpoint.py --model_dir /models/vicuna --dtype float16 --output_dir /models/ckpt
    trtllm-build --checkpoint_dir /models/ckpt --gemm_plugin auto --max_batch_size 2 \\
        --max_input_len 1024 --max_seq_len 2048 --output_dir /models/engine
"
