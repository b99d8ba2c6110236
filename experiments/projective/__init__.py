"""Projective composition: the figures and studies of Bradley et al. 2025."""
