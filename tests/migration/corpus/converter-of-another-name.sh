docker run --rm --gpus all -v <path of this repo>:/code -v <path of the model>:/model trtllm:0.1.0 \
   bash -c ' \
   cd /code && \
   python tools/hf_to_trtllm.py --model_dir /model --output_dir /tmp/ckpt --dtype bfloat16 --tp_size 8 && \
   trtllm-build --checkpoint_dir /tmp/ckpt --output_dir /code/engine --gpt_attention_plugin bfloat16 \
      --context_fmha "enable" --max_input_len 4096 --max_output_len 512 --max_batch_size 64 &&
   cp /model/tokenizer.model /code/engine'
