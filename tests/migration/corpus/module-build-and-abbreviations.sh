python3 convert_checkpoint.py --model_dir /models/opt-125m --dtype float16 --output_dir /ckpt/opt --log_level debug
python3 -m tensorrt_llm.commands.build --checkpoint_dir /ckpt/opt --output_dir /engine/opt --max_batch 4 --max_in 512 --max_seq 1024 --gather_all_token_logits --profiling_verbosity layer_names_only
