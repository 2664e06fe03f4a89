# SPDX-License-Identifier: GPL-2.0-or-later
"""An executable specification of QEMU's copy-before-write filter and snapshot-access driver.

Pure Python, standard library only; no I/O, no clock, no randomness.

A *guest* writes to a disk, the *source*, while a *backup client* reads what the disk held at one
*point in time*: it *fleeces* the guest.  For that a *filter* above the source copies the old data
of each *cluster* to a temporary image, the *target*, before the guest changes it for the first
time; a *snapshot-access* node above the filter shows the client the point in time.  A *backup job*
has a filter of its own, and copies the point in time to its target by itself.  *Dirty bitmaps*
record which *granules* of a disk have changed since they were made, for the next backup.

The modules are best read in this order:

1. ``operations``: what can be done; ``outcome``: what comes of it.
2. ``content``, ``bitmap``, ``program``: what a disk holds, which parts of it have changed, and how
   a request is written down as a program of storage requests.
3. ``copy_before_write``, ``block_copy``, ``snapshot_access``: the heart of it.
4. ``node``, ``image``, ``qcow2``: what is around that, and below; ``nbd_export``, ``channels``:
   what a client gets to see of it.
5. ``backup_job``, ``jobs``, ``successors``: backup jobs, and what becomes of their bitmaps.
6. ``graph``, ``permissions``, ``filters``, ``backup_commands``, ``bitmap_commands``: which
   commands are refused, and in which words.
7. ``machine``, ``concurrent_machine``: all of it tied together, in two grains.

Facts about QEMU are *rules* (:mod:`model.rules`), each with its source; "experiment" means that a
real QEMU was asked.  Builds differ by *capabilities* (:mod:`model.capabilities`); those that are
known defects are *deviations*.  Of what cannot be foretold the model says nothing:
:mod:`model.unsaid`; nor of what would kill a build: :mod:`model.defects`.
"""
