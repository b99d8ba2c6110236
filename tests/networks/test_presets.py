import jax
import pytest

from compjax.networks.edm2 import BATCH, PRESETS, preset


def trained(module, label):
    """The number of parameters, without the buffers that EDM2 does not count."""
    x = jax.ShapeDtypeStruct((1, *module.image), "float32")
    params = jax.eval_shape(module.init, jax.random.key(0), x, 1.0, label)["params"]
    buffers = ("freqs", "phases")
    leaves = jax.tree.leaves_with_path(params)
    return sum(leaf.size for path, leaf in leaves if path[-1].key not in buffers)


@pytest.mark.parametrize(
    "name, resolution, channels, label_dim, parameters",
    [
        ("img512-xxs", 64, 4, 1000, 31_309_029),
        ("img512-xs", 64, 4, 1000, 124_713_253),
        ("img512-s", 64, 4, 1000, 280_212_837),
        ("img512-m", 64, 4, 1000, 497_807_781),
        ("img512-l", 64, 4, 1000, 777_498_085),
        ("img512-xl", 64, 4, 1000, 1_119_283_749),
        ("img512-xxl", 64, 4, 1000, 1_523_164_773),
        ("img64-xs", 64, 3, 1000, 124_710_949),
        ("img64-s", 64, 3, 1000, 280_209_381),
        ("img64-m", 64, 3, 1000, 497_803_173),
        ("img64-l", 64, 3, 1000, 777_492_325),
        ("img64-xl", 64, 3, 1000, 1_119_276_837),
        ("img64-xs", 128, 3, 1000, 120_582_181),
        ("img64-xs", 64, 3, 0, 124_198_949),
    ],
)
def test_presets_have_the_parameters_of_edm2(
    name, resolution, channels, label_dim, parameters
):
    assert trained(preset(name, resolution, channels, label_dim), None) == parameters


def test_numbers_of_training_are_there_by_name():
    xs = PRESETS["img64-xs"]
    assert xs.images // BATCH == 524_288
    assert (xs.learning_rate, xs.decay, xs.dropout) == (0.012, 35_000, 0)
    assert (xs.noise_mean, xs.noise_std) == (-0.8, 1.6)
    assert preset("img512-xxl", 64, 4).dropout == PRESETS["img512-xxl"].dropout == 0.1


@pytest.mark.parametrize(
    "name, resolution, message",
    [
        ("xs", 64, "No preset 'xs'; there are img512-xxs, .*, img64-xl"),
        ("img64-xs", 60, r"\(60, 60, 3\).* multiples of .* = 8"),
        ("img64-xs", 0, r"\(0, 0, 3\)"),
        ("img64-xs", -64, r"\(-64, -64, 3\)"),
    ],
)
def test_impossible_presets_are_refused(name, resolution, message):
    with pytest.raises(ValueError, match=message):
        preset(name, resolution)
