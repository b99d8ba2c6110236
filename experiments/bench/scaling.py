"""A train step over 1, 2, 4 and 8 virtual devices, in every layout.

    python -m experiments.bench.scaling

The virtual devices share the cores of this machine, and all of them do the same work
together: this measures what splitting costs, and never what it gains.  The state that
each device holds is what it would be on as many real ones.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax

from compjax.networks import UNet
from experiments import launch
from experiments.bench import layouts
from experiments.bench.timing import interleaved

TINY = UNet(
    channels=32,
    channel_mult=(1, 2),
    num_blocks=1,
    attn_resolutions=(8,),
    channels_per_head=32,
    image=(16, 16, 3),
)


def measure(batch: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each layout of the devices that this process has."""
    settings, calls = {}, {}
    for name, fsdp in layouts.widths(jax.device_count()).items():
        settings[name] = layouts.compile_step(TINY, batch, fsdp)
        calls[name] = stepper(settings[name])
    held = {
        name: layouts.bytes_by_device(setting.state)
        for name, setting in settings.items()
    }
    times = interleaved(calls, rounds)
    return [
        {
            "devices": jax.device_count(),
            "layout": name,
            "milliseconds": 1e3 * times[name]["run"],
            "ratio": times[name]["ratio"],
            "state_bytes": max(held[name]),
            "all_bytes": max(held["data-parallel"]),
        }
        for name in calls
    ]


def stepper(setting: layouts.Setting) -> Callable[[], Any]:
    """A call that makes one more step."""
    states = [setting.state]

    def once() -> Any:
        states[0], metrics = setting.step(states[0], setting.key, setting.batch)
        return metrics

    return once


def main() -> None:
    """Prints the table, one process for each number of devices."""
    parser = launch.parser("experiments.bench.scaling", __doc__)
    parser.add_argument("--batch", type=int, default=16, help="images, all devices")
    parser.add_argument("--rounds", type=int, default=15, help="of interleaved steps")
    parser.add_argument("--devices", type=int, help="measure these alone, print JSON")
    asked = parser.parse_args()
    if asked.devices is not None:
        jax.config.update("jax_num_cpu_devices", asked.devices)
        print(json.dumps(measure(asked.batch, asked.rounds)))
        return
    if asked.batch % 8 or asked.rounds < 1:
        launch.fail("--batch must be a multiple of 8, and --rounds at least 1")
    print(f"{launch.cores()} cores, jax {jax.__version__}, batch {asked.batch}")
    titles = f"{'ms':>9}{'ratio':>8}{'state':>12}{'share':>9}"
    print(f"{'devices':>7}  {'layout':16}{titles}")
    for devices in (1, 2, 4, 8):
        for row in in_a_process(devices, asked.batch, asked.rounds):
            share = row["state_bytes"] / row["all_bytes"]
            print(
                f"{row['devices']:7}  {row['layout']:16}{row['milliseconds']:9.1f}"
                f"{row['ratio']:8.2f}{row['state_bytes']:12}{share:9.2%}",
                flush=True,
            )


def in_a_process(devices: int, batch: int, rounds: int) -> list[dict[str, Any]]:
    """What `measure` returns in a process with so many devices."""
    command = [sys.executable, "-m", "experiments.bench.scaling"]
    command += [f"--devices={devices}", f"--batch={batch}", f"--rounds={rounds}"]
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        launch.fail(f"{devices} devices: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
