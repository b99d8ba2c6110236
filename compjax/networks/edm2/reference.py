"""Weights from EDM2's own code, in PyTorch, as parameters of ours.

The two networks are the same function; the names and the layouts differ.  There,
`unet.enc.8x8_block0.conv_res0.weight` is `[out, in, height, width]`; here,
`encoder1_block0/branch/conv_res0/weight` is `[height, width, in, out]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from compjax.networks.edm2.unet import UNet

SHOWN = 10
"""How many names of each kind an error message lists."""


def params_from_reference(state: Mapping[str, Any], module: UNet) -> PyTree:
    """The parameters of `module` with the weights of a network of EDM2's own code.

    Args:
        state: The state dict of its network (class `Precond`, buffers included), with
            arrays instead of tensors: every value of `net.state_dict()` as
            `value.cpu().numpy()`.
        module: The same network here; see `preset`.

    Returns:
        The tree of float32 parameters that the module takes.

    Raises:
        ValueError: If a name is missing, unexpected, or of the wrong shape; they are
            named.  If the module is one that EDM2's code cannot build.

    Example:
        >>> params_from_reference({}, UNet(image=(64, 64, 3)))
        Traceback (most recent call last):
        ...
        ValueError: The state does not fit the module: ...
    """
    if module.patch != 1 or module.condition_channels:
        raise ValueError(
            f"A network with patch = {module.patch} and condition_channels = "
            f"{module.condition_channels} has no counterpart in EDM2's code; take 1 "
            "and 0."
        )
    image = module.image or _image_of(state)
    paths = {
        reference_name(path, image[0]): (path, _reference_shape(leaf.shape))
        for path, leaf in _shapes(module, image).items()
    }
    problems = {
        "missing": paths.keys() - state.keys(),
        "unexpected": state.keys() - paths.keys(),
        "of wrong shape": [
            f"{name} {np.shape(state[name])}, not {shape}"
            for name, (_, shape) in paths.items()
            if name in state and np.shape(state[name]) != shape
        ],
    }
    if any(problems.values()):
        listed = (f"{kind} {_some(names)}" for kind, names in problems.items() if names)
        raise ValueError(f"The state does not fit the module: {'; '.join(listed)}.")
    return flax.traverse_util.unflatten_dict(
        {path: _from_reference(state[name]) for name, (path, _) in paths.items()}
    )


def reference_name(path: tuple[str, ...], height: int) -> str:
    """The name in EDM2's code of the parameter at a path.

    Args:
        path: Keys in the tree of parameters.
        height: Of the images: its blocks are called by their resolution.

    Example:
        >>> reference_name(("encoder1_block0", "branch", "conv_res0", "weight"), 16)
        'unet.enc.8x8_block0.conv_res0.weight'
    """
    name = ".".join(key for key in path if key not in ("branch", "attention"))

    def by_resolution(match: re.Match[str]) -> str:
        side = height >> int(match[2])
        return f"{match[1][:3]}.{side}x{side}_"

    name = re.sub(r"^(encoder|decoder)(\d+)_", by_resolution, name)
    return name if name.startswith("logvar") else f"unet.{name}"


def _reference_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """`[..., in, out]` as `[out, in, ...]`."""
    return (*shape[:-3:-1], *shape[:-2])


def _from_reference(value: Any) -> jax.Array:
    """`[out, in, ...]` as `[..., in, out]`."""
    value = np.asarray(value, np.float32)
    order = (*range(2, value.ndim), 1, 0) if value.ndim > 1 else range(value.ndim)
    return jnp.asarray(value.transpose(*order))


def _shapes(module: UNet, image: tuple[int, ...]) -> dict[tuple[str, ...], Any]:
    """The shapes of all parameters by their paths."""
    x = jnp.zeros((1, *image))
    variables = jax.eval_shape(module.init, jax.random.key(0), x, 1.0)
    return flax.traverse_util.flatten_dict(variables["params"])


def _image_of(state: Mapping[str, Any]) -> tuple[int, int, int]:
    """The size of the images that a state is for, from its names and shapes."""
    for name in state:
        found = re.fullmatch(r"unet\.enc\.(\d+)x\1_conv\.weight", name)
        if found and "unet.out_conv.weight" in state:
            channels = np.shape(state["unet.out_conv.weight"])[0]
            return int(found[1]), int(found[1]), channels
    raise ValueError(
        "The state lacks unet.enc.{n}x{n}_conv.weight or unet.out_conv.weight, which "
        "tell the size of the images; give the module an `image`."
    )


def _some(names: Iterable[str]) -> str:
    """A list of names for a message, not too long."""
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
