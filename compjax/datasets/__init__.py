"""Data for training: streams that are made on the device, inside the train step."""

from compjax.datasets.streams import SingleObject, plain

__all__ = ["SingleObject", "plain"]
