"""Trained weights as files that others can read: safetensors, and a config beside them.

A directory holds `weights.safetensors`, with every parameter by its path joined by
dots, and `config.json`, from which the module is rebuilt.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from compjax import networks
from compjax.scores import Network

FORMAT = 1
"""Of the directories that are written; later ones cannot be read."""

HOW = frozenset({"wrap"})
"""Fields that say how a network is computed and not what: they are not exported."""

WEIGHTS, CONFIG = "weights.safetensors", "config.json"


def export(
    path: str | Path, network: Network, about: Mapping[str, Any] | None = None
) -> None:
    """Writes a network to a directory, all or nothing; `load` reads it.

    Args:
        path: The directory, which must not be there, or be empty.
        network: A module of `compjax.networks`, and its parameters.
        about: Anything else to be kept in `config.json`, of JSON types: the step, the
            configuration of training.

    Raises:
        ValueError: If something is there already, or the network is of another module.
        OSError: If it could not be written; nothing is left behind then.

    Example:
        >>> import tempfile
        >>> fields = {"channels": 4, "channel_mult": (1,), "num_blocks": 0}
        >>> module = networks.UNet(**fields, image=(4, 4, 1))
        >>> key, x = jax.random.key(0), jnp.ones((1, 4, 4, 1))
        >>> variables = jax.jit(module.init)(key, x, 1.0)
        >>> path = Path(tempfile.mkdtemp()) / "weights"
        >>> export(path, Network(module, variables["params"]), {"step": 10})
        >>> load(path).module == module
        True
    """
    from safetensors.flax import save_file  # an optional dependency

    path = Path(path).absolute()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} is there already: give another directory.")
    described = _described(network.module)
    _demand_fit(network.module, network.params, path)
    config = {
        "format": FORMAT,
        "network": described,
        "versions": {name: version(name) for name in ("compjax", "flax", "jax")},
        "about": dict(about or {}),
    }
    try:
        json.dumps(config)
    except TypeError as error:
        raise ValueError(f"about must be of JSON types: {error}.") from error

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        draft.mkdir()
        save_file(_flat(network.params), draft / WEIGHTS)
        config["weights"] = {"sha256": _digest(draft / WEIGHTS)}
        (draft / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        shutil.copymode(draft / CONFIG, draft / WEIGHTS)  # safetensors hides its files
        os.replace(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load(path: str | Path) -> Network:
    """The network that `export` wrote: a conditional score, with `.denoise`.

    Its weights are verified: their names and shapes must be those of the module (of
    one whose `image` is None, the first image shows), and every byte as it was written.

    Args:
        path: The directory.

    Raises:
        ValueError: If there is none, or it is damaged, of a later version, or of a
            network that this version does not have.

    Example:
        >>> load("/nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: /nowhere holds no exported network (config.json is missing): ...
    """
    from safetensors import SafetensorError  # an optional dependency
    from safetensors.flax import load_file

    path = Path(path)
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise ValueError(
                f"{path} holds no exported network ({name} is missing): give a "
                "directory that compjax.training.export wrote."
            )
    config = _read_config(path / CONFIG)
    module = _module(config["network"], path / CONFIG)
    if _digest(path / WEIGHTS) != config["weights"]["sha256"]:
        raise ValueError(
            f"{path / WEIGHTS} is damaged, or not the file that {CONFIG} is about: "
            "export it again."
        )
    try:
        params = unflatten_dict(load_file(path / WEIGHTS), sep=".")
    except SafetensorError as error:
        raise ValueError(f"{path / WEIGHTS} cannot be read: {error}.") from error
    _demand_fit(module, params, path)
    return Network(module, params)


def _described(module: Any) -> dict[str, Any]:
    """The class and the fields of a module, as JSON types."""
    name = type(module).__name__
    if getattr(networks, name, None) is not type(module):
        raise ValueError(
            f"{name} is not a module of compjax.networks, so it cannot be exported."
        )
    return {
        "class": name,
        "fields": {
            field: _encoded(f"{name}.{field}", getattr(module, field))
            for field in sorted(_fields(type(module)) - HOW)
        },
    }


def _module(described: Mapping[str, Any], file: Path) -> nn.Module:
    """The module that `_described` describes."""
    name, fields = described["class"], described["fields"]
    cls = getattr(networks, str(name), None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise ValueError(f"{file} is of a network {name!r}, which compjax has not.")
    unknown = sorted(fields.keys() - (_fields(cls) - HOW))
    if unknown:
        raise ValueError(
            f"{file}: {name} has no field {unknown[0]!r}; it was written by another "
            "version of compjax."
        )
    try:
        return cls(**{field: _decoded(value, file) for field, value in fields.items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {name} cannot be made: {error}") from error


def _fields(cls: type) -> set[str]:
    """The names of a module's own fields."""
    fields: Any = cls
    return {field.name for field in dataclasses.fields(fields)} - {"parent", "name"}


def _encoded(name: str, value: Any) -> Any:
    """A field as JSON types; dtypes as `{"dtype": name}`, modules as `_described`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, nn.Module):
        return _described(value)
    if isinstance(value, tuple):
        return [_encoded(name, item) for item in value]
    try:
        return {"dtype": jnp.dtype(value).name}
    except TypeError:
        raise ValueError(f"{name} = {value!r} cannot be exported.") from None


def _decoded(value: Any, file: Path) -> Any:
    """The inverse of `_encoded`."""
    if isinstance(value, list):
        return tuple(_decoded(item, file) for item in value)
    if isinstance(value, dict) and "class" in value:
        return _module(value, file)
    if isinstance(value, dict):
        return getattr(jnp, jnp.dtype(value["dtype"]).name)
    return value


def _read_config(file: Path) -> dict[str, Any]:
    """The content of `config.json`, if it has the parts that it must have."""
    try:
        config = json.loads(file.read_text())
        found, network = config["format"], config["network"]
        complete = (
            isinstance(found, int)
            and isinstance(network["class"], str)
            and isinstance(network["fields"], dict)
            and isinstance(config["weights"]["sha256"], str)
        )
    except (KeyError, TypeError, ValueError):  # of which Unicode's and JSON's are kinds
        complete = found = False
    if found is not False and found > FORMAT:
        raise ValueError(
            f"{file} has format {found}, and this version of compjax reads {FORMAT}: "
            "update compjax."
        )
    if not complete:
        raise ValueError(f"{file} is damaged: export the network again.")
    return config


def _demand_fit(module: Any, params: PyTree, path: Path) -> None:
    """Raises a ValueError unless the parameters are those that the module has."""
    if isinstance(module, networks.Local):  # all its parameters are its network's
        module, params = module.net, params.get("net", {})
    image = getattr(module, "image", None)
    if image is None:  # what the parameters are depends on the size of the images
        return
    channels = getattr(module, "condition_channels", 0)
    condition = jnp.zeros((1, *image[:2], channels)) if channels else None
    variables = jax.eval_shape(
        module.init, jax.random.key(0), jnp.zeros((1, *image)), 1.0, condition
    )
    wanted, given = (
        {name: leaf.shape for name, leaf in _flat(tree).items()}
        for tree in (variables["params"], params)
    )
    names = wanted.keys() | given.keys()
    names = sorted(name for name in names if wanted.get(name) != given.get(name))
    if names:
        name, absent = names[0], "absent"
        raise ValueError(
            f"The weights for {path} do not fit their network: {name} is "
            f"{given.get(name, absent)} and should be {wanted.get(name, absent)} "
            f"({len(names)} differ)."
        )


def _flat(params: PyTree) -> dict[str, Any]:
    """The parameters by their paths, joined by dots."""
    return dict(flatten_dict(params, sep="."))


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
