"""The networks that EDM2's authors trained, by the names they gave them."""

from __future__ import annotations

from typing import NamedTuple

from compjax.networks.edm2.unet import UNet


class Preset(NamedTuple):
    """What distinguishes one network of EDM2, and its training, from the others.

    Args:
        channels: Of the first level.
        learning_rate: The highest, reached after the ramp.
        decay: Updates after which the learning rate decays.
        dropout: Probability of dropping an activation.
        noise_mean: Mean of the logarithm of the noise levels of training.
        noise_std: Its standard deviation.
        images: Number of images, with repetitions, that it was trained on.
    """

    channels: int
    learning_rate: float
    decay: int
    dropout: float
    noise_mean: float
    noise_std: float
    images: int


BATCH = 2048
"""Images in a batch; the learning rates of all presets are for this size."""

_MI = 2**20

PRESETS = {
    # Latents of images of 512 x 512: 64 x 64, 4 channels.
    "img512-xxs": Preset(64, 0.0170, 70_000, 0.0, -0.4, 1.0, 2048 * _MI),
    "img512-xs": Preset(128, 0.0120, 70_000, 0.0, -0.4, 1.0, 2048 * _MI),
    "img512-s": Preset(192, 0.0100, 70_000, 0.0, -0.4, 1.0, 2048 * _MI),
    "img512-m": Preset(256, 0.0090, 70_000, 0.1, -0.4, 1.0, 2048 * _MI),
    "img512-l": Preset(320, 0.0080, 70_000, 0.1, -0.4, 1.0, 1792 * _MI),
    "img512-xl": Preset(384, 0.0070, 70_000, 0.1, -0.4, 1.0, 1280 * _MI),
    "img512-xxl": Preset(448, 0.0065, 70_000, 0.1, -0.4, 1.0, 896 * _MI),
    # Images of 64 x 64, 3 channels.
    "img64-xs": Preset(128, 0.0120, 35_000, 0.0, -0.8, 1.6, 1024 * _MI),
    "img64-s": Preset(192, 0.0100, 35_000, 0.0, -0.8, 1.6, 1024 * _MI),
    "img64-m": Preset(256, 0.0090, 35_000, 0.1, -0.8, 1.6, 2048 * _MI),
    "img64-l": Preset(320, 0.0080, 35_000, 0.1, -0.8, 1.6, 1024 * _MI),
    "img64-xl": Preset(384, 0.0070, 35_000, 0.1, -0.8, 1.6, 640 * _MI),
}
"""All of them by name.

Source: Karras et al. 2024 (EDM2, 2312.02696), and its released code.
"""


def preset(name: str, resolution: int, channels: int = 3, label_dim: int = 0) -> UNet:
    """The U-Net of a preset for square images; no parameters yet.

    The numbers of training that go with it are in `PRESETS[name]`.

    Args:
        name: One of `PRESETS`: "img64-xs" has 125 million parameters.
        resolution: Height and width of the images, a multiple of 8.
        channels: Channels of the images; 4 for the latents of "img512".
        label_dim: Length of a vector condition; 0 for a network without condition.

    Raises:
        ValueError: If there is no such preset, or images of this size do not fit.

    Source: Karras et al. 2024 (EDM2, 2312.02696), and its released code.

    Example:
        >>> preset("img64-xs", 64, label_dim=1000).image
        (64, 64, 3)
        >>> preset("img64-tiny", 64)
        Traceback (most recent call last):
        ...
        ValueError: No preset 'img64-tiny'; there are img512-xxs, img512-xs, ...
    """
    if name not in PRESETS:
        raise ValueError(f"No preset {name!r}; there are {', '.join(PRESETS)}.")
    return UNet(
        channels=PRESETS[name].channels,
        dropout=PRESETS[name].dropout,
        label_dim=label_dim,
        image=(resolution, resolution, channels),
    )
