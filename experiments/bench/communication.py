"""What the devices send each other in a train step, read from the compiled program.

    python -m experiments.bench.communication

For each layout of 8 virtual devices: the bytes that a device sends, if collectives run
in rings, against the least that the layout needs.  With P bytes of parameters, N
devices in all of which F share a state:

    data-parallel    2 (N - 1) / N P: the sum of all gradients
    fully sharded    (N - 1) / N P for the parameters, as much for the gradients
    mixed            (F - 1) / F P for each of both, and 2 (N/F - 1) / (N/F) P / F
                     to sum the gradients of the N/F copies

Parameters that were freed after the forward pass would be gathered once more for the
backward pass; this step keeps them.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import jax

from experiments import launch
from experiments.bench import layouts
from experiments.bench.scaling import TINY

DEVICES = 8
SIZES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1, "u8": 1}
OPERATION = re.compile(
    r" = (?P<type>.*?) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|"
    r"collective-permute)(?:-start)?\("
)
ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One collective operation of a program.

    Args:
        kind: Its name in HLO.
        size: Bytes of its result on one device.
        group: Devices that take part together.
        source: What it was compiled from.
    """

    kind: str
    size: int
    group: int
    source: str

    @property
    def sent(self) -> float:
        """Bytes that each device sends in a ring."""
        n = self.group
        steps = {
            "all-reduce": 2 * (n - 1) / n,
            "all-gather": (n - 1) / n,
            "all-to-all": (n - 1) / n,
            "reduce-scatter": n - 1,  # its result is one part of n
            "collective-permute": 1,
        }
        return self.size * steps[self.kind]


def collectives(program: str) -> Iterator[Collective]:
    """The collective operations in the text of a compiled program."""
    for line in program.splitlines():
        if found := OPERATION.search(line):
            source = re.search(r'op_name="([^"]*)"', line)
            arrays = ARRAY.findall(found["type"])
            size = sum(
                SIZES[kind] * math.prod(int(n) for n in shape.split(",") if n)
                for kind, shape in arrays
            )
            yield Collective(
                found["kind"], size, _group(line), source[1] if source else ""
            )


def _group(line: str) -> int:
    """How many devices exchange with each other."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(listed[1].split(","))
    if compact := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(compact[1])
    return jax.device_count()


def least(size: int, devices: int, fsdp: int) -> float:
    """The bytes that each device has to send in a step, with parameters of `size`."""
    copies = devices // fsdp
    split = 2 * (fsdp - 1) / fsdp * size
    return split + 2 * (copies - 1) / copies * size / fsdp


def main() -> None:
    """Prints the table, and what is sent beyond parameters and gradients."""
    parser = launch.parser("experiments.bench.communication", __doc__)
    parser.add_argument("--batch", type=int, default=16, help="images, all devices")
    asked = parser.parse_args()
    if asked.batch % DEVICES:
        launch.fail(f"--batch must be a multiple of {DEVICES}, got {asked.batch}")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    print(f"{DEVICES} virtual devices, jax {jax.__version__}, batch {asked.batch}")
    for name, fsdp in layouts.widths(DEVICES).items():
        setting = layouts.compile_step(TINY, asked.batch, fsdp)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(setting.state.params))
        report(name, setting.step.as_text(), size, least(size, DEVICES, fsdp))


def report(name: str, program: str, size: int, minimum: float) -> None:
    """Prints the sums over a program, and its largest operations."""
    found = list(collectives(program))
    sent, counts = Counter(), Counter()
    for one in found:
        sent[one.kind] += one.sent
        counts[one.kind] += 1
    total = sum(sent.values())
    print(
        f"\n{name}: {total:.0f} bytes sent by each device, {total / minimum:.3f} of the"
        f" least ({minimum:.0f}); parameters {size} bytes"
    )
    for kind, count in counts.items():
        print(f"  {count:4} {kind:20}{sent[kind]:12.0f}")
    for one in sorted(found, key=lambda one: -one.sent)[:4]:
        print(f"       {one.sent:12.0f} {one.kind} of {one.group}: {one.source[-70:]}")


if __name__ == "__main__":
    main()
