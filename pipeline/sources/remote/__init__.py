"""A checkpoint in a repo of any site: listed, planned, fetched and proved by one class.

`source` plans and fetches through a `client` (what a site must answer); `revisions` finds the
commit and its files; `memory` keeps what a commit holds, so that it is asked for once.
"""
