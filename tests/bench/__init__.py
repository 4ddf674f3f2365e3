"""Ratios against other ways to do the same work, measured side by side in one run."""
