"""Named bytes: where files live and how they become durable.

Start with `base` (the interface every durable call goes through), then `local` (a folder on disk) and `memory`
(for tests and throw-away stores). How a folder on disk is read fast is in `cold`, how its files are handed out as
memory in `mapping`. Imports only `units` and `errors`.
"""
