"""What `import compjax` costs, in ratio to `import jax`.

python -m experiments.bench.imports
"""

import subprocess
import sys
import time

import numpy as np


def seconds(module: str) -> float:
    """The time that a fresh interpreter takes to import a module, and to end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def main(rounds: int = 11) -> None:
    """Prints the medians of interleaved runs."""
    seconds("jax"), seconds("compjax")  # files into the cache
    pairs = np.array([(seconds("jax"), seconds("compjax")) for _ in range(rounds)])
    jax, ours = np.median(pairs, axis=0)
    ratio = np.median(pairs[:, 1] / pairs[:, 0])
    print(f"import jax {jax:.2f} s, import compjax {ours:.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
