# SPDX-License-Identifier: GPL-2.0-or-later
"""Golden outputs: readable logs of whole scenarios, kept in ``golden/`` and reviewed as text.

A log has three witnesses: the file, what the model says must come, and what QEMU printed.  All
three have the same shape, so that a difference tells which of them stands alone.
"""
