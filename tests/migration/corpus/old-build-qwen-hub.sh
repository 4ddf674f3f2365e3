python build.py \
    --model_dir Qwen/Qwen2.5-7B-Instruct \
    --output_dir ./trt_engines/qwen-7b \
    --dtype float16 \
    --use_gpt_attention_plugin float16 \
    --use_gemm_plugin float16 \
    --max_batch_size 64 \
    --max_input_len 4096 \
    --max_output_len 2048
python3 scripts/serve.py --engine_dir ./trt_engines/qwen-7b --host 0.0.0.0 --port 8000
