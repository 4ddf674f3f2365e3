#!/bin/bash
#SBATCH --nodes=1
module load cuda
srun --container-image=trtllm.sqsh --mpi=pmix bash -c "cd /app/tensorrt_llm/examples/llama && python convert_checkpoint.py --model_dir=/m/Llama-2-70b-hf --output_dir=/c/70b --dtype=float16 --tp_size=4 --pp_size=2 --workers=8 && trtllm-build --checkpoint_dir=/c/70b --output_dir=/e/70b --workers=8 --gemm_plugin=float16 --max_batch_size=64 --max_input_len=2048 --max_seq_len=4096 --nccl_plugin=float16"
