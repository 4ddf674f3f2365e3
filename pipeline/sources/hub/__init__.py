"""The Hugging Face Hub, through `huggingface_hub` 0.34 to 2.x.

`repo` is what a source sees. `client` asks, each time over a `line` that can be cut off:
`requests` of our own give a listing (`listing`) and headers; `files` has the client download,
hashes what comes (`download_watch`, `following`) and proves it. `errors` and `answers` say what
failures mean; `endpoints` which hub is asked.
"""
