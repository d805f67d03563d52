"""casckpt: a content-addressed store for machine-learning checkpoints, with history, refs and verified restores."""
