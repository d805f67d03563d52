"""What the benchmarks share.

`states` makes what is saved, `clock` takes the time, `limits` is what the bare machine does, `peers` are the other
ways to save, `files` sizes and caches, `machine` the facts of this computer, `results` keeps, prints and writes.
"""
