"""The fault catalogue: each fault brought about for real, and judged by oracles that see past Raydock."""
