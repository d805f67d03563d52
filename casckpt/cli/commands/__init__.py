"""One file for each command or small family; see `casckpt.cli.table` for the list and `call` for what they get."""
