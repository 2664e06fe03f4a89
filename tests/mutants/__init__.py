# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutants of the model: is each line of the specification held in place by a real QEMU?

``python -m tests.mutants record FILE`` records what a real QEMU answers to the directed checks and
to drawn traces.  ``python -m tests.mutants judge FILE model/bitmap.py …`` changes the model in one
place at a time and asks each mutant to foretell the recording: one that can is a survivor.
See docs/mutants.md.
"""
