"""ModelScope, over plain HTTPS and without its own client.

`client` is what a source sees: `api` lists, `pipeline.sources.http` fetches. `site` says which one
is asked and in whose name, `errors` what failures mean.
"""
