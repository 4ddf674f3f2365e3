python convert_checkpoint.py --model_version v1_13b \
                             --model_dir baichuan-inc/Baichuan-13B-Chat \
                             --dtype float16 \
                             --output_dir ./tmp/baichuan_v1_13b/trt_engines/fp16/1-gpu/
trtllm-build --checkpoint_dir ./trt_ckpt/baichuan_v1_13b/ \
             --output_dir ./trt_engines/baichuan_v1_13b/ \
             --gemm_plugin float16 \
             --max_batch_size=32
