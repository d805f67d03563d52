"""What the bytes of other programs' files mean: safetensors, zip archives (.pt, .npz), .npy, and where to cut them.

Everything here reads hostile input through `reader.Reader`: no declared size is believed before it was compared with
the length of the file, nothing is executed, no pickle is looked into. Pure; imports `units` and `errors` only.

Read `cuts` first: it says what a commit makes of a file. `safetensors`, `zips` and `npy` parse one format each.
"""
