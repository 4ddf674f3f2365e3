"""Files that survive kills and power cuts, are read once, and are what they seem to be."""
