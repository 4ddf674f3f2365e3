huggingface-cli download meta-llama/Meta-Llama-3-70B --local-dir-use-symlinks=False --local-dir=./Meta-Llama-3-70B

python3 convert_checkpoint.py --model_dir ./Meta-Llama-3-70B \
                             --output_dir ./converted_checkpoint \
                             --dtype float16 \
                             --tp_size 8 \
                             --pp_size 2

trtllm-build --checkpoint_dir ./converted_checkpoint \
             --output_dir ./output_engines \
             --gemm_plugin float16 \
             --use_custom_all_reduce disable \
             --max_input_len 2048 \
             --max_output_len 2048 \
             --max_batch_size 4
