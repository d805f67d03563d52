"""The verbs: one file each, the only place where plan, state, format and odb meet.

Start with `commit` and `checkout`; `save` and `load` turn a flat state into a tree and back. Results are the frozen
values of `values`. Imports everything below, never `store` or anything above.
"""
