python3 convert_checkpoint.py --model_dir ./falcon/40b-instruct --dtype bfloat16 --tp_size 2 --output_dir ./falcon/40b-instruct/trt_ckpt/bf16/tp2-pp1/
trtllm-build --checkpoint_dir ./falcon/40b-instruct/trt_ckpt/bf16/tp2-pp1/ \
                --gemm_plugin bfloat16 \
                --gpt_attention_plugin bfloat16 \
                --output_dir ./falcon/40b-instruct/trt_engines/bf16/tp2-pp1/
