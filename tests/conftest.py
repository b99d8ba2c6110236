"""Strict numerics, four virtual devices, and hypothesis profiles, for every test."""

import os

# Before JAX starts: compiled programs are kept between runs, in the user's cache.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/compjax-tests")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import hypothesis
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

hypothesis.settings.register_profile(
    "default",
    deadline=None,  # the first example compiles
    derandomize=True,
    max_examples=20,
    print_blob=True,
)
hypothesis.settings.register_profile(
    "thorough", hypothesis.settings.get_profile("default"), max_examples=200
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="module", autouse=True)
def _free_programs():
    """Compiled programs take gigabytes if they are kept from one module to the next."""
    yield
    jax.clear_caches()
