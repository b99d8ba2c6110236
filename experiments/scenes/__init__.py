"""CLEVR scenes: sets on disk, pictures by Blender, the training of the detector."""
