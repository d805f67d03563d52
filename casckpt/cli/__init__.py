"""The command line: `casckpt COMMAND ...`, over the Python API and the room `view`.

`app` runs a command and prints its answer, `table` lists the commands, `commands/` has a file for each; a command
returns an `Answer` and prints nothing. Importing this loads click and nothing slow; the store comes with the command.
"""

from casckpt.cli.app import main as main
