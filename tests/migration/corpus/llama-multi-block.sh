python3 convert_checkpoint.py --model_dir /media/Llama-2-13b-hf/ --output_dir /media/tllm_checkpoint_4gpu_tp4 --dtype float16 --tp_size 4
trtllm-build --checkpoint_dir /media/tllm_checkpoint_4gpu_tp4  --output_dir /media/llama-13b-engines-fp16-4gpu  --gemm_plugin float16 --multi_block_mode enable
mpirun -n 4 --allow-run-as-root python3 ../run.py --max_output_len 50 --engine_dir /media/llama-13b-engines-fp16-4gpu --tokenizer_dir /media/Llama-2-13b-hf/ --input_text "In the beginning"
