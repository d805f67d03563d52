"""The user's state: nested Python values taken apart into structure and memory, and put together again. Pure.

Start with `flat` (what a state is taken apart into), then `flatten` (apart), `unflatten` (together) and `walk` (the
leaves of a stored structure, without numpy and torch). `flatten` is `trace` (the walk), `outline` (what follows from
the look of a state, kept for the next one) and `held` (its memory and blobs); `join` reads many small blobs at once.
`paths` names every leaf; `sharing` and `layout` decide which leaves are one blob; `nodes`, `values` and `checks` are
the grammar, read as hostile input. `kinds` has all values that are none of the plain ones.

May import `units` and `errors`. torch is imported by `tensors` and by those of `kinds` that are of torch, when a tensor
appears; numpy by `arrays`, `memory` and those of `kinds` that are of numpy, when numbers appear.
"""
