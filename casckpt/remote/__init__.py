"""What a remote holds and how it changes: its roots, segments and packs. Nothing here knows of a store's commits.

Start with `view`, which reads the newest root and its segments; `roots` makes the next one.
"""
