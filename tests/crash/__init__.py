"""What a crash may leave: durable calls recorded, failed and replayed.

`recorder` writes down every durable call, `powerfail` rebuilds from that what a power loss could leave, `faults`
kills the process or fails the disk at any call. Tests of an operation feed its recording to `powerfail` and its
calls to `faults`; `test_harness` proves on a toy protocol that broken ones are caught.
"""
