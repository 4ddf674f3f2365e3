python3 convert_checkpoint.py \
    --model_dir llama/7b/ --dtype float16 --output_dir ./llama/torch/trt_ckpt/fp16/1-gpu/ \
    --tp_size 1 --pp_size 1 --vocab_size 32000 --n_positions 4096 --n_layer 32 --n_head 32 \
    --n_kv_head 32 --n_embd 4096 --inter_size 11008 --rms_norm_eps 1e-05 \
    --use_weight_only --weight_only_precision int8 --smoothquant 0.5 --per_channel --per_token \
    --int8_kv_cache --group_size 128
