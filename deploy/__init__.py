"""Raydock: a Ray cluster in Docker on machines that are reached by SSH."""
