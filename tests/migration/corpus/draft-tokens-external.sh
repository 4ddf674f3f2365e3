python convert_checkpoint.py --model_dir ./Llama-3-70B --output_dir ./ckpt --dtype bfloat16 --tp_size 4
trtllm-build --checkpoint_dir=./ckpt --output_dir=./engine --max_draft_len=5 --speculative_decoding_mode=draft_tokens_external \
  --gpt_attention_plugin=bfloat16 --remove_input_padding=enable --paged_kv_cache=enable --context_fmha=enable --context_fmha_fp32_acc=enable \
  --max_num_tokens=10000 --use_paged_context_fmha=enable --max_batch_size=16 --max_input_len=2048 --max_seq_len=4096
