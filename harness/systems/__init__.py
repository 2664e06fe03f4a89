# SPDX-License-Identifier: GPL-2.0-or-later
"""Fifth layer of the harness: the systems under test, one interface with several realisations.

:mod:`base` is the interface; :mod:`daemon` and :mod:`qemu_system` are real, :mod:`simulated` is
the model, and may lie (:mod:`lies`).  :mod:`commands` says which QMP command an operation is.
"""
