"""``python -m dytemp``."""

import sys

from dytemp.lab.cli import main

sys.exit(main())
