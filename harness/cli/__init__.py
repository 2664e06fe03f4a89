# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line, ``python -m harness``: the only place that prints and that ends the process.

Exit codes: 0 conforms, 1 diverges (a crash and a hang, too), 2 usage or environment, 130
interrupted.
"""
