"""``python -m dytemp``."""

import sys

from dytemp.lab.cli import main

if __name__ == "__main__":  # the processes that run chapters import this module, too
    sys.exit(main())
