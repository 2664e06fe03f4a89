# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at all there is to see: at the end of each drawn trace, or after each step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.exploration.areas import AREAS, named
from harness.exploration.building import Builder, Plan
from harness.exploration.images import SOURCE, TARGET
from harness.exploration.sweep import sweep, with_looks
from harness.exploration.traces import TraceSource
from harness.lockstep.replay import check_possible, replay
from harness.lockstep.trace import Trace
from harness.lockstep.verdict import Conforms, Diverges
from harness.systems.base import Answer
from harness.systems.lies import Lie
from harness.systems.lies.lie import Chance, Oracle
from model import operations as ops
from model.concurrent_machine import machine_for
from model.operations import BitmapRef, Context
from tests.unit.lockstep_lab import FLEECING, K, fleecing, stand

C = 64 * K
DEPTH = Context.DEPTH


def _looked(trace: Trace) -> Trace:
    return with_looks(trace, Plan(trace.header.system))


def test_looks_leave_a_trace_its_numbers() -> None:
    trace = fleecing(ops.Write("cbw", C, 4 * K), ops.Read("snap", C, C), ops.Write("cbw", 0, 512))
    trace = replace(trace, steps=tuple(replace(step, number=3 * step.number)
                                       for step in trace.steps))
    looked = _looked(trace)
    own = {step.number for step in trace.steps}
    assert tuple(step for step in looked.steps if step.number in own) == trace.steps
    assert len(looked.steps) > 5 * len(trace.steps)
    assert [step.number for step in looked.steps[:3]] == [3, 22, 23], "after all others"
    assert replay(looked, stand()) == Conforms(len(looked.steps))


def test_status_of_a_snapshot_is_asked_where_it_may_be_read() -> None:
    """A denied cluster would make the answer about all an error, and nothing would be compared."""
    builder = Builder(Plan(), FLEECING)
    builder.add_all((ops.AddFilter("cbw", "src", "tmp"), ops.AddSnapshot("snap", "cbw"),
                     ops.Export("snap"), ops.Discard("snap", C, C), ops.Discard("snap", 3 * C, C)))
    builder.add_all(sweep(builder, touch=False))
    asked = [(each.offset, each.length, each.context) for step in builder.steps
             if isinstance(each := step.operation, ops.Status) and each.node == "snap"]
    assert asked == [(0, C, Context.ALLOCATION), (2 * C, C, Context.ALLOCATION),
                     (4 * C, 12 * C, Context.ALLOCATION)], "the export tells no depth"


def _holes(chance: Chance) -> Answer | None:
    """Says of what can be read behind a denied cluster that there is nothing."""
    asked = chance.operation
    if not isinstance(asked, ops.Status) or asked.node != "snap" or asked.offset == 0:
        return None
    return replace(chance.answer, extents=tuple(
        (length, 3) for length, _ in chance.answer.extents or ()))


def test_a_wrong_status_beside_a_denied_cluster_is_caught() -> None:
    lie = Lie("wrong-snapshot-status", "", Oracle.EXTENTS, answer=_holes)
    trace = fleecing(ops.Write("cbw", 2 * C, C), ops.Discard("snap", 0, C))
    assert isinstance(replay(trace, stand(lie)), Conforms), "nothing has asked"
    verdict = replay(_looked(trace), stand(lie))
    assert isinstance(verdict, Diverges)
    assert isinstance(verdict.step.operation, ops.Status)


@pytest.mark.parametrize("area", [*AREAS])
def test_every_drawn_trace_ends_with_a_look_at_everything(area: str) -> None:
    """The content of all nodes, the status of the images, and what is allocated in them."""
    source = TraceSource(Plan(), named(area))
    for index in range(6):
        trace = source.trace(2, index)
        assert trace is not None
        machine = machine_for(trace.configuration, trace.header.capabilities)
        for step in trace.steps:
            machine.apply(step.number, step.operation)
        done = [step.operation for step in trace.steps]
        assert {each.node for each in done if isinstance(each, ops.Inspect)} >= {
            name for name in machine.nodes if not name.startswith("#")}
        for node in (SOURCE, TARGET):
            # What storage that tells block status has allocated there is nothing to say of.
            tells = trace.configuration.image(node).tells_status
            assert {Context.ALLOCATION, *([] if tells else [DEPTH])} <= {
                each.context for each in done
                if isinstance(each, ops.Status) and each.node == node}, (index, node)
    check_possible(trace, machine_for(trace.configuration, trace.header.capabilities))


def test_an_export_that_tells_no_depth_makes_way_at_the_end() -> None:
    builder = Builder(Plan(), FLEECING)
    builder.add_all((ops.Export("tmp", bitmaps=()), *sweep(builder, touch=False)))
    after = [step.operation for step in builder.steps]
    assert ops.Unexport("tmp") in after
    assert ops.Status("tmp", 0, FLEECING.images[1].size, context=DEPTH) in after


def test_bitmaps_that_deny_from_the_beginning() -> None:
    builder = Builder(Plan(), FLEECING)
    builder.add_all((ops.BitmapAdd("src", "b"), ops.Export("src"), ops.Write("src", 5 * C, C),
                     ops.Unexport("src"),
                     ops.AddFilter("cbw", "src", "tmp", bitmap=BitmapRef("src", "b")),
                     ops.AddSnapshot("snap", "cbw")))
    builder.add_all(sweep(builder, touch=False))
    assert [each for step in builder.steps if isinstance(each := step.operation, ops.Status)
            and each.node == "snap"] == [
        ops.Status("snap", 5 * C, C), ops.Status("snap", 5 * C, C, context=DEPTH)]
