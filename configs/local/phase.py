"""The phase diagram of length generalisation, on exact sprites.

Command:   python -m experiments.local.phase --workdir=runs/local_phase
           --config=configs/local/phase.py
Hardware:  two CPU cores, no GPU: about 70 minutes for 48 networks; resumable
Expected:  ours, there is no such figure in the paper: global networks generalise where
           training has shown several labels at a time, windows of one place always.
"""

from ml_collections import ConfigDict

from configs.local import sprites


def get_config() -> ConfigDict:
    """Label completeness x largest cardinality x window, one seed."""
    config = sprites.get_config()
    config.seeds = (0,)
    config.sample.requests = (0, 1, 6)
    config.sample.images = 256
    config.probe.sigmas = (1.0,)
    config.switch.models = ()
    config.phase = ConfigDict()
    config.phase.completeness = (0.0, 0.25, 0.5, 0.75, 1.0)
    config.phase.most = (1, 2, 3, 4)  # objects in training; of one, all is said
    config.phase.windows = ("global", "near", "own")
    config.phase.k = 6  # places asked for

    kinds = {
        "global": ("vector", None),
        "near": ("channel", sprites.window(6, 6)),
        "own": ("channel", sprites.window(0, 0)),
    }
    config.models = ConfigDict()
    for window in config.phase.windows:
        for most in config.phase.most:
            for completeness in config.phase.completeness:
                if most == 1 and completeness < 1:
                    continue
                name = cell(window, most, completeness)
                config.models[name] = sprites.network(
                    *kinds[window], completeness=completeness, most=most
                )
    return config


def cell(window: str, most: int, completeness: float) -> str:
    """The name of a model."""
    return f"{window}_{most}_{round(100 * completeness)}"
