"""Lock files: what a recipe asked for and what it got, to the byte, beside the recipe.

`making` writes one, `reading` trusts none, `changes` tells two apart, `frozen` holds a plan to one.
"""
