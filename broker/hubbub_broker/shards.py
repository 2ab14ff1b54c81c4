"""How many shards there can be: a leaf."""

SHARDS_MAX = 999
"""Their folders have three digits."""
