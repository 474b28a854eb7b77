"""Random changes of patches, so that a network learns what does not matter: drawn on the host, applied on the device.

:mod:`plan` draws for each patch what will happen to it, from the random numbers of that patch alone; the dataset cuts
what the plan needs, in the dtype of the file; :mod:`finish` carries the plan out with torch wherever the batch lies,
and makes the targets of what came out.
"""
