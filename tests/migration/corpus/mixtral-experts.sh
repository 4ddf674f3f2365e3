git lfs install
git clone https://huggingface.co/mistralai/Mixtral-8x22B-v0.1
python ../llama/convert_checkpoint.py --model_dir ./Mixtral-8x22B-v0.1 --output_dir ./tllm_checkpoint_mixtral_8gpu --dtype float16 --tp_size 8 --moe_tp_size 2 --moe_ep_size 4
trtllm-build --checkpoint_dir ./tllm_checkpoint_mixtral_8gpu --output_dir ./trt_engines/mixtral/tp2ep4
