trtllm-build \
    --checkpoint_dir <tmp file for trtllm checkpoint> \
    --output_dir <final path for the trtllm checkpoint> \
    --gpt_attention_plugin <dtype from step above> \
    --gemm_plugin <dtype from step above> \
    --context_fmha <"enable" on A100+ GPUs and "disable" otherwise> \
    --max_input_len 4096 \
    --max_output_len 512 \
    --max_batch_size <desired batch size>
