"""PyTorch's time for a list of products, for `convolutions.py`, which starts it.

Needs torch alone.  The first line read is the list in JSON; every further line is
`forward` or `backward`, each answered by the seconds that the whole list took: every
product after the other, with or without the gradients of both operands.
"""

import json
import sys
import time
from collections.abc import Callable

import torch


def product(op: dict, layout: torch.memory_format) -> tuple[Callable, list]:
    """A product and its operands, of which both want gradients."""
    if op["kind"] == "matmul":
        a, b = torch.randn(op["left"]), torch.randn(op["right"])
        return torch.matmul, [a.requires_grad_(), b.requires_grad_()]
    b, h, w, i, o, k = (op[name] for name in ("b", "h", "w", "i", "o", "k"))
    x = torch.randn(b, i, h, w).to(memory_format=layout)
    weight = torch.randn(o, i, k, k).to(memory_format=layout)
    convolve = lambda x, weight: torch.nn.functional.conv2d(x, weight, padding=k // 2)
    return convolve, [x.requires_grad_(), weight.requires_grad_()]


def forward(products: list) -> None:
    """Every product."""
    with torch.no_grad():
        for apply, operands in products:
            apply(*operands)


def backward(products: list) -> None:
    """Every product, and its gradients to both operands."""
    for apply, operands in products:
        out = apply(*operands)
        torch.autograd.grad(out, operands, torch.ones_like(out))


def main() -> None:
    """Answers until its input ends."""
    told = json.loads(sys.stdin.readline())
    torch.set_num_threads(told["threads"])
    layout = getattr(torch, told["layout"])
    # Equal products share operands, of which a real network has its own.
    made = {json.dumps(op): product(op, layout) for op in told["products"]}
    products = [made[json.dumps(op)] for op in told["products"]]
    print(torch.__version__, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        {"forward": forward, "backward": backward}[line.strip()](products)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
