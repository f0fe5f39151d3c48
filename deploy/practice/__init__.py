"""Practice hosts on one machine, which a cluster takes for real ones, and what it finds around them."""
