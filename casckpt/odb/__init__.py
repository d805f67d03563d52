"""The object database: journal, packs, index, locks, and the repository that holds them together.

Start with `repository` (init and open) and `database` (what a store contains at this moment), then `session` (how a
commit becomes durable) and `journal` (the one mutable truth). The index is a view of the journal and can be deleted.
Imports `format` and `storage`, never `plan`, `ops` or anything above.
"""
