"""Benchmarks of speed and memory, and their recorded results."""
