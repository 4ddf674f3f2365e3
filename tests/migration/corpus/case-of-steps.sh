#!/bin/sh
# One step a call: `./engine.sh convert`, then `./engine.sh build`.
ROOT=${ROOT:-/srv/models}
NAME=${NAME:-Meta-Llama-3.1-8B-Instruct}
RANKS=${RANKS:-1}
case "$1" in
    convert)
        python3 examples/llama/convert_checkpoint.py \
            --dtype bfloat16 --model_dir $ROOT/$NAME-hf --output_dir $ROOT/$NAME-ckpt --tp_size $RANKS
        ;;
    build)
        trtllm-build --checkpoint_dir $ROOT/$NAME-ckpt --output_dir $ROOT/$NAME-engine \
            --gemm_plugin bfloat16 --workers $RANKS
        ;;
esac
