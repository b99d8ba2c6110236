"""Measurements of speed and memory, which tests never assert."""
