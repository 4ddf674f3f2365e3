export MODEL_NAME=google-t5/t5-small
export INFERENCE_PRECISION="bfloat16"
export MAX_BEAM_WIDTH=1
python examples/enc_dec/convert_checkpoint.py --model_type t5 --model_dir tmp/hf_models/${MODEL_NAME} --output_dir tmp/trt_models/${MODEL_NAME} --tp_size 1 --pp_size 1 --dtype ${INFERENCE_PRECISION}
trtllm-build --checkpoint_dir tmp/trt_models/${MODEL_NAME} \
	--output_dir tmp/trt_engines/${MODEL_NAME}/encoder \
	--paged_kv_cache disable \
	--moe_plugin disable \
	--enable_xqa disable \
	--use_custom_all_reduce disable \
	--max_beam_width ${MAX_BEAM_WIDTH} \
	--max_batch_size 8 \
	--max_output_len 200 \
	--gemm_plugin ${INFERENCE_PRECISION} \
	--bert_attention_plugin ${INFERENCE_PRECISION} \
	--gpt_attention_plugin ${INFERENCE_PRECISION} \
	--remove_input_padding enable \
	--context_fmha disable
