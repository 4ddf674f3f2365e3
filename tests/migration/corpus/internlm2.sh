python3 convert_checkpoint.py  --model_dir /mnt/models/internlm2-chat-20b/ --dtype float16 --output_dir /mnt/tllm/internlm2-chat-20b/tp1

trtllm-build --checkpoint_dir /mnt/tllm/internlm2-chat-20b/tp1/ --output_dir /mnt/engines/internlm2-chat-20b/fp16/1-gpu/ --gemm_plugin float16 --max_batch_size=32 --max_input_len=2048 --max_output_len=2048
