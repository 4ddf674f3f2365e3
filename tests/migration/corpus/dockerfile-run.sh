FROM nvcr.io/nvidia/tritonserver:24.05-trtllm-python-py3
WORKDIR /app/examples/llama
RUN python3 convert_checkpoint.py --model_dir /models/llama3 \
    --output_dir /ckpt --dtype bfloat16 && \
    trtllm-build --checkpoint_dir /ckpt --output_dir /engines \
    --gemm_plugin bfloat16 --max_batch_size 16
