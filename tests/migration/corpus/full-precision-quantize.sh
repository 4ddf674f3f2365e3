python ../quantization/quantize.py --model_dir ./Llama-3.2-3B --dtype bfloat16 --qformat full_prec --output_dir ./ckpt --calib_size 32
trtllm-build --checkpoint_dir ./ckpt --output_dir ./engine --gemm_plugin auto --max_batch_size 4 --max_input_len 1024 --max_seq_len 2048
