"""A converted checkpoint, executed, against the source checkpoint in transformers: their logits.

`problems` and `memory` are for the plan and import nothing heavy; `logits` is the whole comparison.
"""
