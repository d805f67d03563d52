"""`python -m casckpt.cli` is the command `casckpt`."""

import sys

from casckpt.cli import main

sys.exit(main())
