variant=27b
CKPT_PATH=/groups/hf-checkpoints/gemma-2-$variant-it/
UNIFIED_CKPT_PATH=/bb/checkpoints/unified/gemma-2-$variant-it/bf16/tp2/
ENGINE_PATH=/bb/checkpoints/engine/gemma2/$variant/bf16/2-gpu/
mkdir -p ${UNIFIED_CKPT_PATH}
python ./examples/gemma/convert_checkpoint.py --ckpt-type hf --model-dir ${CKPT_PATH} --dtype bfloat16 --world-size 2 --output-model-dir ${UNIFIED_CKPT_PATH}
trtllm-build --checkpoint_dir ${UNIFIED_CKPT_PATH} \
  --gemm_plugin auto \
  --max_batch_size 1 \
  --max_input_len 3000 \
  --max_seq_len 4096 \
  --lookup_plugin bfloat16 \
  --output_dir ${ENGINE_PATH}
