python examples/llama/build.py --model_dir ./Llama-2-7b-hf/ \
  --dtype float16 \
  --remove_input_padding \
  --use_gpt_attention_plugin float16 \
  --enable_context_fmha \
  --use_gemm_plugin float16 \
  --output_dir ./trt_engines-fp16-4-gpu/ \
  --world_size 4 \
  --tp_size 2 \
  --pp_size 2 \
  --use_inflight_batching \
  --paged_kv_cache

mpirun -n 4 --allow-run-as-root \
python3 examples/llama/run.py \
  --engine_dir=trt_engines-fp16-4-gpu \
  --max_output_len 100 \
  --tokenizer_dir ./Llama-2-7b-hf/ \
  --input_text "What is a release?"
