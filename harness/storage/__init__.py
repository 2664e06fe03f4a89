# SPDX-License-Identifier: GPL-2.0-or-later
"""Fourth layer of the harness: the images under QEMU, and what serves them."""
