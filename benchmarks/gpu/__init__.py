"""The sections of benchmarks/cuda.py."""
