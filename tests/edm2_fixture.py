"""Numbers computed by EDM2's own code for a tiny network, and that network here.

They are not part of this project (their licence differs from its own); tests skip where
they are absent.  They are float32, in another order of operations than ours, so 1e-5
is what entries of order 1 agree to; where a tolerance differs, the test says why.
"""

from pathlib import Path

import numpy as np
import pytest

from compjax.networks import UNet
from compjax.networks.edm2 import params_from_reference

FILE = Path(__file__).parents[2] / "shared" / "fixtures" / "edm2_tiny.npz"
needs_file = pytest.mark.skipif(
    not FILE.exists(), reason="the reference numbers of EDM2 (edm2_tiny.npz) are absent"
)

MODULE = UNet(
    channels=16,
    channel_mult=(1, 2),
    num_blocks=1,
    attn_resolutions=(8,),
    channels_per_head=16,
    label_dim=4,
    image=(16, 16, 3),
)


def load():
    with np.load(FILE) as file:
        return dict(file)


def nhwc(x):
    return np.moveaxis(x, 1, -1)


def under(reference, prefix):
    """The arrays whose names begin with a prefix, which is removed."""
    names = [name for name in reference if name.startswith(prefix)]
    return {name.removeprefix(prefix): reference[name] for name in names}


def parameters(reference, prefix="state/"):
    """Those under a prefix; what is not there, such as buffers, as in `state/`."""
    state = under(reference, "state/") | under(reference, prefix)
    return params_from_reference(state, MODULE)


def close(ours, theirs):
    """Entries agree to 1e-5 of the largest, where they are sums over many pixels."""
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
