"""Files over HTTPS by the standard library, with every hop, wait and byte bounded.

`download` fetches a file of known digest into a `partial` one, over `transport`, which follows
`addresses` that may be asked, at a `pace` with bounds, and waits as `retry_after` says.
"""
