# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages that people look at: one self-contained HTML file, nothing fetched, nothing served.

Data goes into the page as JSON; what draws it is plain JavaScript of ours (``static/``), put into
the file with it.
"""
