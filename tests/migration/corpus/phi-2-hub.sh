python ./convert_checkpoint.py --model_dir "microsoft/phi-2" --output_dir ./phi-2-checkpoint --dtype float16
trtllm-build \
    --checkpoint_dir ./phi-2-checkpoint \
    --output_dir ./phi-2-engine \
    --gemm_plugin float16 \
    --max_batch_size 8 \
    --max_input_len 1024 \
    --max_output_len 1024 \
    --workers 1
python3 ../run.py --engine_dir ./phi-2-engine --max_output_len 500 --tokenizer_dir "microsoft/phi-2" --input_text "What is the sum of 1 and 2?"
