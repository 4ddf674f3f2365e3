"""Recipes: as written (strict YAML), merged, and typed."""
