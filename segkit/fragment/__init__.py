"""Fragmenters: affinities in, fragments out. One file a method, under the name it is registered by."""
