git clone https://huggingface.co/Qwen/Qwen2-7B /tmp/Qwen2-7B
cd third_party/TensorRT-LLM/examples/qwen
python3 convert_checkpoint.py --model_dir /tmp/Qwen2-7B \
--output_dir /tmp/Qwen2-7B/tllm_checkpoint_4gpu_tp4/ --dtype float16 --tp_size 4
trtllm-build --checkpoint_dir /tmp/Qwen2-7B/tllm_checkpoint_4gpu_tp4/ \
--output_dir /tmp/Qwen2-7B/trt_engines/fp16_4gpu/ \
--gemm_plugin float16 --context_fmha disable --use_custom_all_reduce disable \
--max_batch_size 16 --paged_kv_cache enable --max_input_len 2048 --max_output_len 512
cd ../../../../
