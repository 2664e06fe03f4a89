# SPDX-License-Identifier: GPL-2.0-or-later
"""Directed checks: what exploration would reach sooner or later, done first and completely.

Each check is a trace, so that what it finds is replayed and shrunk as any other.
"""
