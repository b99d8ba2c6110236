"""What XLA's convolutions cost on a CPU, shape by shape, and beside PyTorch's.

    python -m experiments.bench.convolutions
    python -m experiments.bench.convolutions --torch=PYTHON

The first times EDM2's XS network, 64 x 64, float32, and its largest convolutions in
several formulations.  The second also times, in turns with the network, PyTorch's
convolutions and matrix products of the same shapes, read from the network's jaxpr, with
nothing between them; PYTHON is an interpreter that has torch.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compjax.networks import UNet
from experiments import launch
from experiments.bench.products import Product, products
from experiments.bench.timing import interleaved

SIZE = 64
XS = UNet()
LAYOUTS = ("contiguous_format", "channels_last")


def main() -> None:
    """Prints the tables."""
    parser = launch.parser("experiments.bench.convolutions", __doc__)
    parser.add_argument("--torch", help="an interpreter that has torch")
    parser.add_argument("--rounds", type=int, default=5, help="of interleaved calls")
    parser.add_argument("--shapes", type=int, default=6, help="convolutions to take")
    asked = parser.parse_args()
    if asked.rounds < 1 or asked.shapes < 0:
        launch.fail("--rounds must be at least 1, and --shapes at least 0")
    jax.config.update("jax_num_cpu_devices", 2)
    device = jax.devices()[0]
    print(
        f"{device.platform} ({device.device_kind}), {launch.cores()} cores,"
        f" jax {jax.__version__}"
    )
    whole_network(asked.torch, asked.rounds)
    by_shape(asked.shapes, asked.rounds)


def whole_network(python: str | None, rounds: int) -> None:
    """The network on one and on two devices, against the stack of its products."""
    params = random_params()
    for batch in (1, 4):
        stacks = {}
        if python is not None:
            listed = products(apply, params, *images(batch))
            stacks = {layout: Stack(python, layout, listed) for layout in LAYOUTS}
        for task, fn in (("forward", apply), ("backward", loss_and_gradients)):
            calls: dict[str, Callable[[], Any]] = {
                f"torch {stack.version} alone, {layout}": partial(stack.run, task)
                for layout, stack in stacks.items()
            }
            for n in (1, 2)[:batch]:
                calls[f"network, {n} device{'s'[: n - 1]}"] = placed(
                    fn, params, batch, n
                )
            print(f"\n{task}, batch {batch}, {SIZE} x {SIZE}")
            table(interleaved(calls, rounds))
        for stack in stacks.values():
            stack.close()


def apply(params: Any, x: jax.Array, sigma: jax.Array) -> jax.Array:
    """The denoised batch."""
    return XS.apply({"params": params}, x, sigma)


def loss_and_gradients(params: Any, x: jax.Array, sigma: jax.Array) -> Any:
    """A loss, and its gradients to all parameters."""
    loss = lambda params: jnp.square(apply(params, x, sigma)).sum()
    return jax.value_and_grad(loss)(params)


def random_params() -> Any:
    """Normal parameters, gains included, so that nothing is zero."""
    shapes = jax.eval_shape(XS.init, jax.random.key(0), *images(1))["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: rng.standard_normal(a.shape, np.float32), shapes)


def images(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of noise, and its levels."""
    x = np.random.default_rng(1).standard_normal((batch, SIZE, SIZE, 3), np.float32)
    return x, np.ones(batch, np.float32)


def placed(
    fn: Callable[..., Any], params: Any, batch: int, devices: int
) -> Callable[[], Any]:
    """A call of the compiled function, with its batch split over so many devices."""
    mesh = jax.make_mesh(
        (devices,),
        ("data",),
        (jax.sharding.AxisType.Auto,),
        devices=jax.devices()[:devices],
    )
    everywhere = jax.device_put(params, jax.NamedSharding(mesh, jax.P()))
    split = jax.device_put(images(batch), jax.NamedSharding(mesh, jax.P("data")))
    compiled = jax.jit(fn)
    return lambda: compiled(everywhere, *split)


class Stack:
    """A process that runs products in PyTorch, with all cores.

    Args:
        python: An interpreter that has torch.
        layout: A memory format of torch.
        listed: What to run.
    """

    def __init__(self, python: str, layout: str, listed: list[Product]) -> None:
        script = str(Path(__file__).with_name("torch_stack.py"))
        self._process = subprocess.Popen(
            [python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        told = {"threads": launch.cores(), "layout": layout}
        told["products"] = [product.as_json() for product in listed]
        self.version = self._ask(json.dumps(told))

    def run(self, task: str) -> tuple[()]:
        """Runs the whole list once."""
        self._ask(task)
        return ()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _ask(self, line: str) -> str:
        assert self._process.stdin and self._process.stdout
        try:
            print(line, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            pass
        if not (answer := self._process.stdout.readline()):
            launch.fail("the interpreter of --torch ended: has it torch?")
        return answer.strip()


def by_shape(count: int, rounds: int) -> None:
    """The convolutions that cost most, with both gradients, in each formulation."""
    listed = products(apply, random_params(), *images(4))
    numbers = Counter(one for one in listed if one.convolves and one.right[0] == 3)
    cost = lambda one: one.multiply_adds * numbers[one]
    for one in sorted(numbers, key=cost, reverse=True)[:count]:
        x, w = one.operands()
        g = jnp.ones((*x.shape[:3], w.shape[-1]))
        print(f"\n{numbers[one]} x {one.left} * {one.right}, GFLOP/s")
        print(f"{'':20}{'forward':>10}{'to input':>10}{'to weight':>10}")
        rates = [
            2e-9 * one.multiply_adds / np.array(row)
            for row in zip(
                *(
                    [t["run"] for t in interleaved(calls, rounds).values()]
                    for calls in directions(x, w, g)
                ),
                strict=True,
            )
        ]
        for name, (out, to_x, to_w) in zip(FORMULATIONS, rates, strict=True):
            print(f"{name:20}{out:10.0f}{to_x:10.0f}{to_w:10.0f}")


def directions(x: jax.Array, w: jax.Array, g: jax.Array) -> list[dict[str, Any]]:
    """Calls of every formulation: forward, gradient to input, gradient to weight."""
    calls: list[dict[str, Any]] = [{}, {}, {}]
    for name, fn in FORMULATIONS.items():
        forward = jax.jit(fn)
        to_x = jax.jit(lambda x, w, g, fn=fn: jax.vjp(lambda x: fn(x, w), x)[1](g))
        to_w = jax.jit(lambda x, w, g, fn=fn: jax.vjp(lambda w: fn(x, w), w)[1](g))
        calls[0][name] = lambda f=forward: f(x, w)
        calls[1][name] = lambda f=to_x: f(x, w, g)
        calls[2][name] = lambda f=to_w: f(x, w, g)
    return calls


def nhwc(x: jax.Array, w: jax.Array) -> jax.Array:
    """What `MPConv` does."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=layout)


def nchw(x: jax.Array, w: jax.Array) -> jax.Array:
    """The same between transpositions, in PyTorch's layout."""
    layout = ("NCHW", "OIHW", "NCHW")
    x, w = x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1)
    y = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=layout)
    return y.transpose(0, 2, 3, 1)


def shifted(x: jax.Array, w: jax.Array) -> jax.Array:
    """A sum of nine matrix products."""
    windows = [part @ w[i // 3, i % 3] for i, part in enumerate(_windows(x))]
    return sum(windows[1:], windows[0])


def patches(x: jax.Array, w: jax.Array) -> jax.Array:
    """One matrix product, with all nine neighbours of every pixel."""
    return jnp.concatenate(_windows(x), -1) @ w.reshape(-1, w.shape[-1])


FORMULATIONS = {
    "NHWC": nhwc,
    "NCHW": nchw,
    "9 products": shifted,
    "1 product": patches,
}


def _windows(x: jax.Array) -> list[jax.Array]:
    """The image shifted by every offset of a 3 x 3 window."""
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]


def table(times: dict[str, dict[str, float]]) -> None:
    """Prints compile and run times, and ratios."""
    print(f"{'':44}{'compile s':>10}{'run s':>8}{'ratio':>7}")
    for name, t in times.items():
        print(f"{name:44}{t['compile']:10.1f}{t['run']:8.2f}{t['ratio']:7.2f}")


if __name__ == "__main__":
    main()
