python3 examples/commandr/convert_checkpoint.py --model_dir CohereForAI/c4ai-command-r-v01 --output_dir ./ckpt --use_parallel_embedding --dtype float16 --load_model_on_cpu
python3 -m tensorrt_llm.commands.build --checkpoint_dir ./ckpt --output_dir ./engine --gemm_plugin float16 --max_batch_size 8 --max_input_len 8192 --max_seq_len 9216
