make_engine() {
  local model="$1"
  local ranks="$2"
  python3 convert_checkpoint.py --model_dir "${model}" --dtype bfloat16 --tp_size "${ranks}" --output_dir "${CKPT}"
  trtllm-build --checkpoint_dir "${CKPT}" --use_fused_mlp --reduce_fusion disable --workers 8 \
    --tp_size "${ranks}" --max_batch_size 2048 --max_input_len 4096 --max_seq_len 6144 \
    --max_num_tokens 16384 --output_dir "${ENGINE}"
}
CKPT=/ckpt
ENGINE=/engine
make_engine meta-llama/Meta-Llama-3-70B-Instruct 8
