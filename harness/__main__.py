# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m harness``."""

import sys

if __name__ == "__main__":  # a worker process imports this file under another name
    try:
        from harness.cli.main import main
    except KeyboardInterrupt:  # main says so by itself once it is there
        print("harness: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(main())
