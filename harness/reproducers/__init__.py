# SPDX-License-Identifier: GPL-2.0-or-later
"""Reproducers: a divergence as one file that needs QEMU's programs and nothing of this project.

A shrunk trace becomes a *script* (:mod:`~harness.reproducers.script`): requests and commands, each
with what the model says must come.  A script is written in two forms: for the shell, fit for
``git bisect run``, and as a test for QEMU's own ``tests/qemu-iotests``.  The shell form is tried
on the build before it is handed over (:mod:`~harness.reproducers.attempt`).
"""
