python build.py --model_dir /models/phind-codellama-34b --dtype float16 \
        --use_gpt_attention_plugin float16 --use_gemm_plugin float16 \
        --use_parallel_embedding \
        --use_inflight_batching \
        --rotary_base 1000000 \
        --rotary_scaling dynamic 2.0 \
        --world_size 4 --tp_size 4 --output_dir /e
