"""The command line as its users meet it: transcripts, the contract of `--json`, streams, start-up."""
