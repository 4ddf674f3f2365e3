python convert_checkpoint.py --model_dir /model_input/Llama-2-7b-hf/ --output_dir /model_input/ckpt/ --dtype float16
trtllm-build --checkpoint_dir /model_input/ckpt/ --output_dir /model_output/engine/ --gemm_plugin float16 \
            --max_input_len 4000 --max_output_len 4000
