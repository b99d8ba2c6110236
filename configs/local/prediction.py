"""Does locality, measured, predict length generalisation?  On exact sprites.

Command:   python -m experiments.local.prediction --workdir=runs/local_prediction
           --config=configs/local/prediction.py
Hardware:  two CPU cores, no GPU: about 70 minutes for 54 networks; resumable
Expected:  unknown before it is run.  The probe, its noise levels and the outcome are
           named below, before any training.
"""

from ml_collections import ConfigDict

from configs.local import sprites


def get_config() -> ConfigDict:
    """Two architectures x three label schemes x three lengths of training x 3 seeds."""
    config = sprites.get_config()
    config.sample.requests = (0, 1, 6)
    config.switch.models = ()
    config.prediction = ConfigDict()
    config.prediction.kind = "conditions"  # the primary probe: what a label changes
    config.prediction.view = "denoiser"
    config.prediction.measure = "beyond"  # the share outside of its place
    config.prediction.sigmas = (0.5, 2.0)  # averaged from here to there
    config.prediction.k = 6  # the outcome: requests met at so many places, corrected
    config.prediction.resamples = 2000
    config.models = ConfigDict()
    for encoding in ("vector", "channel"):
        for completeness in (0.0, 0.5, 1.0):
            for steps in (250, 500, 1000):
                name = f"{encoding}_{round(100 * completeness)}_{steps}"
                model = sprites.network(encoding, completeness=completeness, most=3)
                model.steps, model.decay = steps, 0.6 * steps
                config.models[name] = model
    return config
