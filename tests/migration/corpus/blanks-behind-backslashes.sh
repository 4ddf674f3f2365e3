python3 convert_checkpoint.py --model_dir ./hf/Yi-6B \ 
                              --output_dir ./ckpt \  
                              --dtype float16
trtllm-build --checkpoint_dir ./ckpt \ 
            --output_dir ./eng \ 
            --gemm_plugin float16 \	
            --max_batch_size 4
