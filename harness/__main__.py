# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m harness``."""

import sys

from harness.cli.main import main

if __name__ == "__main__":  # a worker process imports this file under another name
    sys.exit(main())
