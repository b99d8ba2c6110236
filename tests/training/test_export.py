"""What is exported can be loaded, and nothing else can."""

import json
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.networks import Local, UNet
from compjax.training.export import export, load

FIELDS = {"channels": 4, "channel_mult": (1, 2), "num_blocks": 0}


def network(**fields):
    """A small U-Net that is not zero."""
    module = UNet(**FIELDS, **fields)
    condition = None
    if module.condition_channels:
        condition = jnp.zeros((1, 4, 4, module.condition_channels))
    x = jnp.zeros((1, 4, 4, 2))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, 1.0, condition)
    leaves, structure = jax.tree.flatten(shapes["params"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    draws = [
        jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return cj.Network(module, jax.tree.unflatten(structure, draws))


@pytest.fixture(scope="module")
def small():
    return network(image=(4, 4, 2))


@pytest.fixture
def exported(tmp_path, small):
    export(tmp_path / "weights", small, {"step": 7})
    return tmp_path / "weights"


def same(a, b):
    """Whether two networks have the same module and the same parameters."""
    assert a.module == b.module
    assert jax.tree.structure(a.params) == jax.tree.structure(b.params)
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"image": (4, 4, 2), "label_dim": 3, "dropout": 0.1},
        {"image": (4, 4, 2), "condition_channels": 2, "dtype": jnp.bfloat16},
        {"resample_filter": (1, 3, 3, 1), "attn_resolutions": ()},
    ],
)
def test_what_was_exported_is_loaded(tmp_path, fields):
    before = network(**fields)
    export(tmp_path / "weights", before)
    same(load(tmp_path / "weights"), before)


def local(small):
    """`small` with a condition, on windows of 4 pixels around tiles of 2."""
    inner = network(image=(4, 4, 2), condition_channels=1 + 3)
    return cj.Network(Local(inner.module, 2, reach=1), {"net": inner.params})


def test_a_network_of_windows_is_loaded_with_its_windows(tmp_path, small):
    before = local(small)
    export(tmp_path / "weights", before)
    loaded = load(tmp_path / "weights")
    same(loaded, before)
    x, condition = jnp.ones((1, 8, 8, 2)), jnp.zeros((1, 4, 4, 1))
    denoise = jax.jit(lambda net: cj.condition(net, condition).denoise(x, 0.7))
    np.testing.assert_array_equal(denoise(loaded), denoise(before))


def test_a_network_of_windows_that_grow_is_refused(tmp_path, small):
    """A function of sigma has no form in a file."""
    growing = local(small).module.clone(radius=lambda sigma: sigma)
    with pytest.raises(ValueError, match=r"Local\.radius = .* cannot be exported"):
        export(tmp_path / "weights", cj.Network(growing, {}))
    wrong = cj.Network(local(small).module, {"net": small.params})
    with pytest.raises(ValueError, match="do not fit their network"):
        export(tmp_path / "weights", wrong)
    assert list(tmp_path.iterdir()) == []


def test_the_loaded_one_denoises_as_the_exported_one(exported, small):
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 4, 4, 2)))
    denoise = jax.jit(lambda network: network.denoise(x, 0.7))
    np.testing.assert_array_equal(denoise(load(exported)), denoise(small))
    assert denoise._cache_size() == 1  # the modules are one and the same


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_other_types_of_weights_are_kept(tmp_path, small, dtype):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), small.params)
    before = cj.Network(small.module, params)
    export(tmp_path / "weights", before)
    same(load(tmp_path / "weights"), before)


def test_rematerialisation_is_left_behind(tmp_path, small):
    before = cj.Network(small.module.clone(wrap=nn.remat), small.params)
    export(tmp_path / "weights", before)
    same(load(tmp_path / "weights"), small)


def test_the_files_are_what_others_expect(exported, small):
    assert sorted(p.name for p in exported.iterdir()) == [
        "config.json",
        "weights.safetensors",
    ]
    modes = {file.stat().st_mode for file in exported.iterdir()}
    assert len(modes) == 1  # who may read one may read the other
    config = json.loads((exported / "config.json").read_text())
    assert config["format"] == 1 and config["about"] == {"step": 7}
    assert config["network"]["class"] == "UNet"
    assert config["network"]["fields"]["channel_mult"] == [1, 2]
    # The header of a safetensors file: its length, and JSON.
    content = (exported / "weights.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    shape = small.params["encoder0_conv"]["weight"].shape
    assert header["encoder0_conv.weight"]["shape"] == list(shape)
    assert header["encoder0_conv.weight"]["dtype"] == "F32"


def test_nothing_is_overwritten(exported, small, tmp_path):
    before = (exported / "weights.safetensors").read_bytes()
    with pytest.raises(ValueError, match="is there already"):
        export(exported, small)
    with pytest.raises(ValueError, match="is there already"):
        export(exported / "config.json", small)
    assert (exported / "weights.safetensors").read_bytes() == before
    (tmp_path / "empty").mkdir()
    export(tmp_path / "empty", small)
    same(load(tmp_path / "empty"), small)


def test_a_failure_leaves_nothing_behind(tmp_path, small, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        export(tmp_path / "weights", small)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused_before_any_file(tmp_path, small):
    class Other(nn.Module):
        pass

    class UNet(nn.Module):  # not the one of compjax
        pass

    wrong = {
        "Other is not a module of compjax.networks": cj.Network(Other(), {}),
        "UNet is not a module": cj.Network(UNet(), {}),
        "emb_noise.weight is absent and should": cj.Network(
            small.module,
            {k: v for k, v in small.params.items() if k != "emb_noise"},
        ),
    }
    for message, net in wrong.items():
        with pytest.raises(ValueError, match=message):
            export(tmp_path / "weights", net)
    with pytest.raises(ValueError, match="about must be of JSON types"):
        export(tmp_path / "weights", small, {"seed": jax.random.key(0)})
    assert list(tmp_path.iterdir()) == []


def changed(change):
    """A harm to the config: `change(config)`."""

    def harm(directory):
        config = json.loads((directory / "config.json").read_text())
        change(config)
        (directory / "config.json").write_text(json.dumps(config))

    return harm


def set_field(name, value):
    return changed(lambda config: config["network"]["fields"].update({name: value}))


def flip(name):
    def harm(directory):
        content = bytearray((directory / name).read_bytes())
        content[-5] ^= 128
        (directory / name).write_bytes(content)

    return harm


def truncate(name):
    def harm(directory):
        os.truncate(directory / name, 100)

    return harm


@pytest.mark.parametrize(
    "message,harm",
    [
        ("config.json is missing", lambda d: (d / "config.json").unlink()),
        (
            "weights.safetensors is missing",
            lambda d: (d / "weights.safetensors").unlink(),
        ),
        ("weights.safetensors is damaged", flip("weights.safetensors")),
        ("weights.safetensors is damaged", truncate("weights.safetensors")),
        ("config.json is damaged", truncate("config.json")),
        ("config.json is damaged", flip("config.json")),
        ("config.json is damaged", changed(lambda config: config.pop("weights"))),
        ("config.json is damaged", changed(lambda config: config.update(network=[]))),
        ("format 2, and .* update compjax", changed(lambda c: c.update(format=2))),
        (
            "network 'Transformer', which compjax has not",
            changed(lambda config: config["network"].update({"class": "Transformer"})),
        ),
        (
            "network 'normalize', which compjax has not",
            changed(lambda config: config["network"].update({"class": "normalize"})),
        ),
        ("UNet has no field 'depth'", set_field("depth", 3)),
        ("UNet has no field 'wrap'", set_field("wrap", "remat")),
        ("UNet cannot be made: dropout must lie", set_field("dropout", 2.0)),
        ("UNet cannot be made: .* 'float33'", set_field("dtype", {"dtype": "float33"})),
        (r"weight is \(.*\) and should be \(", set_field("channels", 8)),
    ],
)
def test_what_is_wrong_is_said(exported, message, harm):
    harm(exported)
    with pytest.raises(ValueError, match=message):
        load(exported)
