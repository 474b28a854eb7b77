"""Fragmenters: affinities in, fragments out. One file a method, under the name it is registered by.

The verb is in `stage.py`; `tasks.py`, `block_labels.py` and `stitch.py` are what it needs by blocks.
"""
