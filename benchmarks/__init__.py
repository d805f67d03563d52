"""How fast, how small and how frugal: one file per question, with the peers in the same run.

    python -m benchmarks.commit         a durable commit: first, unchanged, 10 % changed
    python -m benchmarks.checkout       a verified checkout in a fresh process, warm and cold
    python -m benchmarks.small          20 000 small tensors
    python -m benchmarks.asynchronous   how long a commit in the background blocks
    python -m benchmarks.memory         what a commit and a checkout need beyond the state
    python -m benchmarks.stores         the backup programs restic and borg
    python -m benchmarks.codecs         ratio and speed of the chunk codec
    python -m benchmarks.deltas         ratio and speed of deltas, layout by layout
    python -m benchmarks.trainings      all checkpoints of whole trainings, in a store and in others
    python -m benchmarks.diff           how far the numbers of two commits are apart
    python -m benchmarks.history        commands that look at 10 000 commits
    python -m benchmarks.run            all but deltas, small, against the budgets

What they share (states, clocks, limits of the machine, peers, tables) is in `workbench`; start with `commit.py`.
"""
