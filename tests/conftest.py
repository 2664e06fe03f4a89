# SPDX-License-Identifier: GPL-2.0-or-later
"""Plugins of all tests: golden outputs, and pytest's own means to test a plugin."""

import signal

pytest_plugins = ["harness.golden.plugin", "pytester"]

# What a script runs in the background ignores Ctrl-C, and so would all that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
