# SPDX-License-Identifier: GPL-2.0-or-later
"""Third layer of the harness: the ways to talk to a QEMU process.

Each module speaks one channel and is imported by itself, so that a missing optional library
hurts only who needs it:

* `qmp`      QMP, on qemu.qmp;
* `nbd`      NBD, on libnbd's Python binding (optional);
* `qemu_io`  an interactive qemu-io of our own, on pexpect;
* `monitor`  the `qemu-io` command of the human monitor, through QMP (qemu-system only).

All of them are synchronous, bound every wait by a deadline, and tell apart an answer that is
an error (`RequestFailed`, `QmpRefused`), a peer that died (`PeerGone`), one that does not
answer (`PeerSilent`) and one that answers nonsense (`PeerNonsense`); see `errors`.
"""
