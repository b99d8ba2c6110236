import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_task as task

from compjax.training import init_state, make_train_step, open_checkpoints, restore


def test_checkpoint_survives_the_donation_of_its_state(tmp_path):
    key = jax.random.key(0)
    example = jax.eval_shape(task.batch, key)
    state = init_state(key, task.module, task.optimizer, example)
    step = make_train_step(task.module, task.optimizer, task.batch, task.law)
    copies = []
    with open_checkpoints(tmp_path, keep=2) as checkpoints:
        for _ in range(4):
            state, _ = step(state, jax.random.key(1))
            copies.append(jax.tree.map(lambda leaf: np.array(leaf), state))
            checkpoints.save_async(int(state.step), state)
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == [3, 4]

    restored = restore(tmp_path, state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, copies[-1])


def test_restoring_follows_the_shardings(tmp_path):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    x = jnp.arange(4.0)
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save_async(1, {"x": x})
    like = {"x": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=sharding)}
    restored = restore(tmp_path, like)["x"]
    assert restored.sharding == sharding
    np.testing.assert_array_equal(restored, x)


@pytest.mark.parametrize("exists", [True, False])
def test_no_checkpoint_is_an_error_that_names_the_directory(tmp_path, exists):
    directory = tmp_path if exists else tmp_path / "absent"
    with pytest.raises(ValueError, match=f"{directory} holds no checkpoint; train"):
        restore(directory, {})
    assert directory.exists() == exists
