"""EDM2's network: its blocks, the U-Net, its presets, and weights from its own code."""

from compjax.networks.edm2.blocks import Attention, Branch, DecoderBlock, EncoderBlock
from compjax.networks.edm2.presets import BATCH, PRESETS, Preset, preset
from compjax.networks.edm2.reference import params_from_reference
from compjax.networks.edm2.unet import UNet, as_it_is, fold, places, unfold

__all__ = [
    "BATCH",
    "PRESETS",
    "Attention",
    "Branch",
    "DecoderBlock",
    "EncoderBlock",
    "Preset",
    "UNet",
    "as_it_is",
    "fold",
    "params_from_reference",
    "places",
    "preset",
    "unfold",
]
