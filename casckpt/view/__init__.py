"""What people and programs see: values of operations become lines of text, or objects for `--json`.

Pure: no file, no clock, no terminal; what depends on them comes in as a `Look`. Imports the values of `ops`, `units`
and `errors`. Read `text` first, then `history`.
"""
