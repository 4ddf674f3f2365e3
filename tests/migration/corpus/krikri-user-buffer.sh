python TensorRT-LLM/examples/llama/convert_checkpoint.py --model_dir /engines/Llama-Krikri-8B-Instruct --output_dir /engines/krikri_ckpt --dtype float16
trtllm-build --checkpoint_dir /engines/krikri_ckpt \
             --output_dir /engines/krikri_engine \
             --use_paged_context_fmha enable \
             --use_fp8_context_fmha enable \
             --max_seq_len 64000 --max_batch_size 4 \
             --log_level info \
             --multiple_profiles enable \
             --use_fused_mlp enable \
             --reduce_fusion enable --user_buffer enable
