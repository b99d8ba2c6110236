"""Analysis: what a set of samples says about the composition that made them."""

from compjax.analysis.counting import Row, extra_objects, tally

__all__ = ["Row", "extra_objects", "tally"]
