"""`python -m latens`."""

import sys

from latens.cli import main

sys.exit(main())
