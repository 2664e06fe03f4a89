# SPDX-License-Identifier: GPL-2.0-or-later
"""Exploration: drawing what to do to a QEMU, doing it in lockstep, and keeping what was found.

Hypothesis does the drawing (:mod:`.traces`), the model decides what may be drawn; nothing here
looks at a real system before a trace is complete, so a seed gives the same traces everywhere.
"""
