"""How good the detector is: on renders it has not seen, and on Blender's if there are.

Command:   python -m experiments.scenes.evaluate_detector --workdir=runs/detector_test
           --config.references=PATH to a folder of PNG files and their scenes.json
Hardware:  two CPU cores; four minutes
Expected:  exact counts of 98.4 %, 98.0 % and 94.5 % at 128, 64 and 32 pixels, recall
           and precision of locations above 99 %, on Blender's pictures as well.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The configuration of the table that is published."""
    config = ConfigDict()
    config.seed = 100  # of scenes that served neither training nor the threshold
    config.scenes = 512  # with 0 to 10 objects, each number as likely
    config.faithful = 64  # of them that are rendered with the faithful preset too
    config.plain = 128  # scenes of large rubber objects, as in the quickstart
    config.sides = (128, 64, 32)  # height and width of the pictures, in pixels
    config.plain_side = 48  # the same of the plain scenes
    config.references = ""  # folder of Blender's pictures and scenes.json; "": none
    return config
