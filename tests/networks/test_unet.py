from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax.networks import UNet
from compjax.networks.edm2 import Branch, as_it_is, fold, places, unfold
from compjax.scores import Network

SMALL = dict(channels=8, channel_mult=(1,), num_blocks=1, channels_per_head=8)
X = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
IMAGE = jax.random.normal(jax.random.key(1), (2, 8, 8, 2))


@pytest.fixture(scope="module")
def random_params():
    """A function: parameters of a module, all normal (its gains are not zero)."""

    def draw(module, *example):
        shapes = jax.eval_shape(module.init, jax.random.key(0), *example)["params"]
        generator = np.random.default_rng(0)
        normal = lambda leaf: generator.normal(size=leaf.shape).astype(np.float32)
        return jax.tree.map(normal, shapes)

    return draw


@partial(jax.jit, static_argnums=0)
def apply(module, params, *args):
    return module.apply({"params": params}, *args)


@pytest.fixture(scope="module")
def conditional(random_params):
    module = UNet(**SMALL, patch=2, attn_resolutions=(4,), condition_channels=2)
    return module, random_params(module, X, jnp.ones(2), IMAGE)


def test_fresh_denoiser_shrinks_its_input_only():
    module = UNet(channels=4, channel_mult=(1,), num_blocks=0)
    sigma = jnp.array([0.5, 3.0])
    params = jax.jit(module.init)(jax.random.key(0), X, sigma)["params"]
    D = apply(module, params, X, sigma)
    expected = X / (1 + (sigma / 0.5) ** 2)[:, None, None, None]
    np.testing.assert_allclose(D, expected, rtol=1e-6)
    u = module.apply({"params": params}, sigma, method="log_variance")
    chex.assert_shape(u, (2,))


def test_activations_have_unit_magnitude(random_params):
    module = UNet(channels=32, channel_mult=(1, 2), num_blocks=1)
    x = jax.random.normal(jax.random.key(2), (4, 16, 16, 3))
    params = random_params(module, x, 1.0)
    fresh = jax.tree.map(lambda leaf: leaf if leaf.ndim else 0 * leaf, params)

    @jax.jit
    def magnitudes(params):
        is_block = lambda m, _: "block" in (m.name or "") or "_up" in (m.name or "")
        _, state = module.apply(
            {"params": params}, x, 1.0, capture_intermediates=is_block
        )
        return jax.tree.map(lambda y: jnp.square(y).mean(), state["intermediates"])

    levels = jax.tree.leaves(magnitudes(fresh))
    assert len(levels) == 7
    assert all(0.5 < float(level) < 2 for level in levels)


def test_one_noise_level_or_one_each_and_one_condition_or_one_each(conditional):
    module, params = conditional
    same = jnp.repeat(IMAGE[:1], 2, 0)
    expected = apply(module, params, X, jnp.full(2, 0.7), same)
    shared = apply(module, params, X, 0.7, IMAGE[:1])
    np.testing.assert_allclose(shared, expected, rtol=1e-4, atol=1e-5)


def test_images_do_not_see_each_other_and_see_their_condition(conditional):
    module, params = conditional
    D = apply(module, params, X, jnp.ones(2), IMAGE)
    for x, image in ((X.at[0].add(1.0), IMAGE), (X, IMAGE.at[0].add(1.0))):
        other = apply(module, params, x, jnp.ones(2), image)
        assert not np.allclose(D[0], other[0], atol=1e-3)
        np.testing.assert_array_equal(D[1], other[1])


def test_network_is_a_score_whose_parameters_never_retrace(conditional):
    module, params = conditional
    score = jax.jit(chex.assert_max_traces(lambda net, x, s, c: net(x, s, c), n=1))
    first = score(Network(module, params), X, jnp.float32(2.0), IMAGE)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    score(Network(module, doubled), X, jnp.float32(1.0), IMAGE)
    D = apply(module, params, X, jnp.full(2, 2.0), IMAGE)
    np.testing.assert_allclose(first, (D - X) / 4, rtol=1e-4, atol=1e-5)


def test_bfloat16_computes_the_same_and_returns_float32(conditional):
    module, params = conditional
    half = module.clone(dtype=jnp.bfloat16)
    D, approximate = (apply(m, params, X, jnp.ones(2), IMAGE) for m in (module, half))
    assert approximate.dtype == jnp.float32
    difference = np.abs(D - approximate).max()
    assert 0 < difference < 0.05 * np.abs(D).max()  # 8 bits, a dozen layers


def test_attention_reaches_across_the_image_and_few_channels_have_none(random_params):
    near = dict(channels=8, channel_mult=(1,), num_blocks=1)
    x = jnp.zeros((1, 32, 32, 1))
    moved = x.at[0, 0, 0, 0].set(3.0)
    reach = {}
    for channels_per_head in (8, 64):
        module = UNet(**near, channels_per_head=channels_per_head)
        params = random_params(module, x, 1.0)
        D = apply(module, params, x, 1.0)
        far = (apply(module, params, moved, 1.0) - D)[0, -1, -1, 0]
        reach[channels_per_head] = abs(float(far))
    # 14 convolutions of 3 x 3 reach 14 pixels: the far corner sees attention only.
    assert reach[64] == 0 < reach[8]


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_unfold_undoes_fold(patch):
    folded = fold(X, patch)
    chex.assert_shape(folded, (2, 8 // patch, 8 // patch, 3 * patch**2))
    np.testing.assert_array_equal(unfold(folded, patch), X)
    square = X[0, :patch, patch : 2 * patch]
    np.testing.assert_array_equal(folded[0, 0, 1], square.ravel())


@pytest.mark.parametrize(
    "fields, x, condition, message",
    [
        ({}, X, IMAGE, r"condition of shape \(2, 8, 8, 2\).* takes None"),
        ({"condition_channels": 2}, X, None, r"shape None .* takes \(2, 8, 8, 2\)"),
        ({"condition_channels": 3}, X, IMAGE, r"\(2, 8, 8, 2\).*takes \(2, 8, 8, 3\)"),
        ({"condition_channels": 2}, X[:1], IMAGE, r"takes \(1, 8, 8, 2\)"),
        ({"label_dim": 4}, X, jnp.ones((2, 3)), r"\(2, 3\).* takes \(2, 4\)"),
        ({"channel_mult": (1,) * 5}, X, None, r"\(8, 8, 3\).*multiples of .* = 16"),
        ({"image": (8, 16, 3)}, X, None, r"\(2, 8, 8, 3\).*for images \(8, 16, 3\)"),
        ({"patch": 3}, X, None, r"\(8, 8, 3\).*multiples of .* = 3"),
    ],
)
def test_wrong_shapes_are_refused(fields, x, condition, message):
    module = UNet(**(SMALL | fields))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), x, 1.0, condition)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"dropout": 1.0}, r"dropout .* got 1\.0"),
        ({"dropout": -0.1}, r"dropout .* got -0\.1"),
        ({"resample_filter": (1, 2, 1)}, r"even number .* got \(1, 2, 1\)"),
        ({"resample_filter": (1, -1)}, r"not of sum 0; got \(1, -1\)"),
        ({"image": (8, 12, 3)}, r"\(8, 12, 3\).*multiples of .* = 8"),
        ({"image": (0, 8, 3)}, r"\(0, 8, 3\).*multiples of .* = 8"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        UNet(**fields)


def test_modules_are_known_by_value():
    """They are static arguments of jit: an equal one must not compile again."""
    fields = dict(wrap=nn.remat, image=(8, 8, 3), resample_filter=(1, 3, 3, 1))
    assert UNet(**fields) == UNet(**fields)
    assert hash(UNet(**fields)) == hash(UNet(**fields))
    assert UNet(**fields) != UNet(**(fields | {"wrap": as_it_is}))


def test_rematerialised_blocks_are_the_same_function(random_params):
    plain = UNet(**(SMALL | {"num_blocks": 0}), dropout=0.2)
    remat = plain.clone(wrap=nn.remat)
    params = random_params(plain, X, 1.0)
    example = jax.random.key(0), X, 1.0
    chex.assert_trees_all_equal_shapes(
        *(jax.eval_shape(module.init, *example)["params"] for module in (plain, remat))
    )

    def loss(params, module):
        rngs = {"dropout": jax.random.key(3)}
        D = module.apply({"params": params}, X, 1.0, rngs=rngs)
        return jnp.square(D).mean()

    run = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    (value, grads), (value_remat, grads_remat) = run(params, plain), run(params, remat)
    np.testing.assert_allclose(value, value_remat, rtol=1e-6)
    # The same sums in another order: rounding relative to the largest entry.
    for ours, theirs in zip(*map(jax.tree.leaves, (grads, grads_remat)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())

    def convolutions(module):
        program = jax.make_jaxpr(jax.grad(loss), static_argnums=1)(params, module)
        return str(program).count("conv_general_dilated[")

    assert convolutions(remat) > convolutions(plain)  # the blocks are computed again


def test_dropout_zeroes_its_share_and_scales_the_rest():
    x, emb = jax.random.normal(jax.random.key(3), (2, 32, 32, 4)), jnp.ones((2, 4))
    branch = Branch(4, dropout=0.25)
    variables = branch.init(jax.random.key(0), x, emb)
    # The last convolution is the identity, so that the output is what was dropped.
    identity = jnp.zeros((3, 3, 4, 4)).at[1, 1].set(jnp.eye(4))
    variables["params"]["conv_res1"]["weight"] = identity
    kept = branch.apply(variables, x, emb)
    some = branch.apply(variables, x, emb, rngs={"dropout": jax.random.key(1)})
    dropped = some == 0
    # 8192 draws: the share has a standard deviation of 0.005.
    assert float(dropped.mean()) == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(some, jnp.where(dropped, 0, kept / 0.75), rtol=1e-5)
    again = branch.apply(variables, x, emb, rngs={"dropout": jax.random.key(2)})
    assert not np.array_equal(some, again)


def test_network_drops_only_where_it_is_given_a_key(random_params):
    fields = SMALL | {"num_blocks": 0}
    sure, unsure = UNet(**fields), UNet(**fields, dropout=0.5)
    params = random_params(sure, X, 1.0)

    @partial(jax.jit, static_argnums=0)
    def with_key(module, params):
        rngs = {"dropout": jax.random.key(0)}
        return module.apply({"params": params}, X, 1.0, rngs=rngs)

    D = apply(sure, params, X, 1.0)
    np.testing.assert_array_equal(apply(unsure, params, X, 1.0), D)
    np.testing.assert_allclose(with_key(sure, params), D, atol=1e-5)
    assert not np.allclose(with_key(unsure, params), D, atol=1e-2)


def test_levels_are_resampled_with_the_filter_that_is_asked_for(random_params):
    fields = SMALL | {"channel_mult": (1, 1), "num_blocks": 0}
    box, same = UNet(**fields), UNet(**fields, resample_filter=(2.0, 2.0))
    wide = UNet(**fields, resample_filter=(1, 3, 3, 1))
    params = random_params(box, X, 1.0)
    D, D_same, D_wide = (apply(m, params, X, 1.0) for m in (box, same, wide))
    np.testing.assert_allclose(D_same, D, atol=1e-5)
    assert not np.allclose(D_wide, D, atol=1e-2)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_places_are_waves_of_unit_size(h, w, n):
    found = places(h, w, n)
    assert found.shape == (h, w, 4 * n)
    # cos^2 + sin^2 = 1 for each frequency and axis, exactly but for rounding.
    np.testing.assert_allclose((found**2).mean(-1), 1.0, rtol=1e-5)
    assert (np.ptp(found[..., : 2 * n], axis=1) == 0).all()  # those of rows
    turned = places(w, h, n).swapaxes(0, 1)
    np.testing.assert_array_equal(found[..., 2 * n :], turned[..., : 2 * n])


def test_a_network_with_positions_knows_where_it_is(random_params):
    """A picture of one colour: eight convolutions carry the edges eight points in."""
    fields = {"channels": 8, "channel_mult": (1,), "num_blocks": 0}
    fields |= {"attn_resolutions": (), "channels_per_head": 16}  # so none attends
    x = jnp.ones((1, 32, 32, 1))
    spread = []
    for n in (0, 2):
        module = UNet(**fields, positions=n)
        D = apply(module, random_params(module, x, 1.0), x, 1.0)
        spread.append(float(np.ptp(D[0, 14:18, 14:18])))
    assert spread[0] < 1e-5 < 1e-2 < spread[1]
    with pytest.raises(ValueError, match="positions must be at least 0, got -1"):
        UNet(positions=-1)


def test_two_kinds_of_condition_are_refused():
    with pytest.raises(ValueError, match="label_dim = 4 and condition_channels = 2"):
        UNet(label_dim=4, condition_channels=2)


def test_a_coarse_condition_is_repeated_to_the_size_of_the_image(conditional):
    module, params = conditional
    coarse = IMAGE[:, ::4, ::2]
    fine = jnp.repeat(jnp.repeat(coarse, 4, 1), 2, 2)
    expected = apply(module, params, X, jnp.ones(2), fine)
    np.testing.assert_array_equal(
        apply(module, params, X, jnp.ones(2), coarse), expected
    )
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 2\).* takes \(2, 8, 8, 2\)"):
        apply(module, params, X, jnp.ones(2), IMAGE[:, :3])
