# SPDX-License-Identifier: GPL-2.0-or-later
"""The lockstep harness: real QEMU builds beside the reference model."""
