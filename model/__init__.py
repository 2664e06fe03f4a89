# SPDX-License-Identifier: GPL-2.0-or-later
"""An executable specification of QEMU's copy-before-write filter and snapshot-access driver.

Pure Python, standard library only; no I/O, no clock, no randomness.  Start at
:mod:`model.copy_before_write` for the heart of it, :mod:`model.snapshot_access` for what a backup
client sees, :mod:`model.operations` for what can be done, :mod:`model.machine` for how they are
tied together.
"""
