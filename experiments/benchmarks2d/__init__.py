"""The field's two-dimensional composition benchmarks, with exact and learned scores."""
