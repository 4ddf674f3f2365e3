"""The smoke test's parts beside the stage that runs it: prompts as tokens, and the record."""
