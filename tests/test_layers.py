"""Who may import whom, and what `import compjax` may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "compjax"
CORE = {"types", "noise", "scores", "compose", "densities", "samplers"}
CORE |= {"divergence", "likelihood", "windows"}
ALLOWED = {
    "types": set(),
    "noise": {"types"},
    "scores": {"types", "noise"},
    "windows": {"types", "scores"},
    "compose": {"types", "noise", "scores", "windows"},
    "densities": {"types", "noise", "scores"},
    "samplers": {"types", "noise", "scores", "compose"},
    "divergence": {"types"},
    "likelihood": {"types", "noise", "scores", "compose", "divergence"},
    "networks": {"types", "noise", "scores"},
    "scenes": {"types", "networks"},
    "grammars": {"types", "scores", "noise"},
    "discrete": {"types", "scores", "noise"},
    "datasets": {"types", "scenes", "grammars"},
    "training": CORE | {"networks", "datasets", "scenes", "grammars", "discrete"},
    "analysis": CORE | {"scenes", "grammars", "networks"},
    "plotting": CORE,
    "testing": CORE,
}
HEAVY = {
    "flax",
    "optax",
    "orbax",
    "grain",
    "tensorflow_datasets",
    "matplotlib",
    "absl",
    "scipy",
    "chex",
    "hypothesis",
    "ml_collections",
    "tqdm",
}
FILES = [file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE] + [
    file for file in PACKAGE.glob("*.py") if file.name != "__init__.py"
]


def imports(file):
    """Names of modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_dependencies_point_one_way(file):
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(file):
        parts = name.split(".")
        assert parts[0] not in ("experiments", "configs"), f"{file} imports {name}"
        if parts[0] == "compjax" and len(parts) > 1 and parts[1] in ALLOWED:
            assert parts[1] in ALLOWED[own] | {own}, f"{file} imports {name}"


def test_importing_compjax_is_light():
    """A fresh interpreter: `import compjax` loads none of the heavy packages.

    JAX itself loads some of them on some versions, so what it loads alone is excused.
    """
    script = (
        "import sys, jax, jax.numpy; before = set(sys.modules); import compjax as cj;"
        "cj.densities.Gaussian([0.0], [[1.0]]);"
        "print(*(name.split('.')[0] for name in set(sys.modules) - before))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(out.stdout.split())


def test_public_names_resolve():
    import compjax as cj

    for name in cj.__all__:
        assert getattr(cj, name) is not None
    for path in PACKAGE.iterdir():
        if path.name[0] not in "_." and path.stem not in ("compose", "likelihood"):
            assert getattr(cj, path.stem) is not None, path.stem
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cj.nothing  # noqa: B018


def test_no_import_computes():
    """Devices are chosen after imports; an array built by one would start them all."""
    script = (
        "import jax, compjax as cj;"
        "modules = [getattr(cj, name) for name in cj._LAZY];"
        "jax.config.update('jax_num_cpu_devices', 2);"
        "print(len(jax.devices('cpu')))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) == 2
