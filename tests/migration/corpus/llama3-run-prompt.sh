python3 /app/TensorRT-LLM/examples/llama/convert_checkpoint.py --model_dir /app/Meta-Llama-3-8B --output_dir /compiled_models/llama3 --tp_size 1
trtllm-build --checkpoint_dir /compiled_models/llama3 \
    --gemm_plugin float16 \
    --output_dir /compiled_models/llama3-engine
python3 /app/TensorRT-LLM/examples/run.py --engine_dir /compiled_models/llama3-engine --max_output_len 100 --tokenizer_dir /app/Meta-Llama-3-8B --input_text "How do I count to nine in French?"
