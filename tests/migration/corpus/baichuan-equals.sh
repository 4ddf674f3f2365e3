python convert_checkpoint.py --model_version v1_13b \
                             --model_dir baichuan-inc/Baichuan-13B-Chat \
                             --dtype float16 \
                             --output_dir ./trt_ckpt/baichuan_v1_13b/
trtllm-build --checkpoint_dir ./trt_ckpt/baichuan_v1_13b/ \
             --output_dir ./trt_engines/baichuan_v1_13b/ \
             --gemm_plugin float16 \
             --max_batch_size=32 \
             --max_input_len=1024 \
             --max_output_len=512
