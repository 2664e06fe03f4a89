# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model leaves to the storage, decided in one way and another: does it say too much?

Whether zeroes in a file are a hole, and in how many pieces block status tells of them, is up to
the storage below QEMU.  Where the model leaves that open, no answer to a client may depend on it;
where one would, the model has to refuse the operation.  So a machine whose storage has decided
must conform to the model, whichever way it decides: if not, some real storage would be a false
alarm.  Without a QEMU that is tried many times as fast, and storage of every kind is at hand.
"""
