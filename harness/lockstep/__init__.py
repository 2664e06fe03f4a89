# SPDX-License-Identifier: GPL-2.0-or-later
"""Model and system side by side: do, observe, compare; trace, replay, shrink, explain.

* :mod:`~harness.lockstep.trace`: what is done, on disk before it is done;
* :mod:`~harness.lockstep.run`: the lockstep itself, which ends in a
  :mod:`~harness.lockstep.verdict`;
* :mod:`~harness.lockstep.compare`: the oracles, which find
  :mod:`~harness.lockstep.differences`;
* :mod:`~harness.lockstep.replay`, :mod:`~harness.lockstep.shrink` (with the proposals of
  :mod:`~harness.lockstep.simplify`): a trace once more, and as small as it gets;
* :mod:`~harness.lockstep.explain`: the story of a failure, with whose data it is
  (:mod:`~harness.lockstep.origin`) and the state around it (:mod:`~harness.lockstep.state`).
"""
