export HF_HUB_ENABLE_HF_TRANSFER=true
pip install hf_transfer
huggingface-cli download TinyLlama/TinyLlama-1.1B-Chat-v1.0 --local-dir tllama

python3 convert_checkpoint.py --model_dir ./tllama/ \
                              --output_dir ./tllm_checkpoint_1gpu_fp16 \
                              --dtype float16
trtllm-build --checkpoint_dir ./tllm_checkpoint_1gpu_fp16 \
            --output_dir ./trt_engines/tllama/fp16/1-gpu \
            --gemm_plugin auto
du -h -d 1 ./trt_engines/tllama/fp16/1-gpu
python3 ../run.py --max_output_len=50 \
               --tokenizer_dir ./tllama/ \
               --engine_dir=./trt_engines/tllama/fp16/1-gpu
