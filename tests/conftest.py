# SPDX-License-Identifier: GPL-2.0-or-later
"""Plugins of all tests: golden outputs, and pytest's own means to test a plugin."""

pytest_plugins = ["harness.golden.plugin", "pytester"]
