"""One module for each model class of TensorRT-LLM: its config.json, read as a decoder.

A module has `ARCHITECTURES` (the exact strings of config.json's `architecture`) and
`read(keys) -> Decoder`; it is found by being here.
"""
