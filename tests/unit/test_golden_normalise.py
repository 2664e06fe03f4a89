# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs from run to run is replaced by what it means, and nothing is lost."""

from __future__ import annotations

from typing import Any

from harness.golden.normalise import Names, in_order, subject


def event(name: str, **data: Any) -> dict[str, Any]:
    return {"event": name, "data": data,
            "timestamp": {"seconds": 1_700_000_000, "microseconds": 12}}


def test_paths_become_the_folders_they_are_in() -> None:
    names = Names({"/tmp/x": "TEST_DIR", "/tmp/x/sock": "SOCK_DIR"})
    assert names.message({"filename": "/tmp/x/src.raw", "path": "/tmp/x/sock/nbd"}) == {
        "filename": "TEST_DIR/src.raw", "path": "SOCK_DIR/nbd"}


def test_automatic_nodes_have_a_role_or_an_order() -> None:
    names = Names()
    names.learn("#block117", "file of src")
    assert names.text("Node '#block117' and '#block211'") == "Node '#(file of src)' and '#auto1'"
    assert names.text("#block5, #block211") == "#auto2, #auto1", "the same node, the same name"
    assert names.text("#block11 is not #block117") == "#auto3 is not #(file of src)"


def test_two_runs_give_the_same_text() -> None:
    one, other = Names(), Names()
    assert one.message(["#block10", "#block11"]) == other.message(["#block900", "#block31"])


def test_a_time_stamp_is_there_or_is_not() -> None:
    names = Names()
    seen = names.message(event("STOP"))
    assert seen["timestamp"] == {"seconds": "SECS", "microseconds": "USECS"}
    odd = {"timestamp": {"seconds": "soon", "microseconds": 0}}
    assert names.message(odd) == odd, "nonsense is not made to look right"
    late = {"timestamp": {"seconds": 1, "microseconds": 1_000_000}}
    assert names.message(late) == late


def test_events_of_one_subject_keep_their_order() -> None:
    wrong = [event("JOB_STATUS_CHANGE", id="a", status="concluded"),
             event("JOB_STATUS_CHANGE", id="a", status="running")]
    assert in_order(wrong) == wrong, "so a wrong order still shows"


def test_events_of_different_subjects_come_in_one_order() -> None:
    ran, ended = (event("JOB_STATUS_CHANGE", id="a", status=each) for each in ("running", "null"))
    gone = event("BLOCK_EXPORT_DELETED", id="cbw")
    expected = [ran, ended, gone]
    for order in ([ran, ended, gone], [ran, gone, ended], [gone, ran, ended]):
        assert in_order(order) == expected
    assert in_order([ran, gone]) == [ran, gone], "what is missing is missing"


def test_whom_an_event_is_about() -> None:
    assert subject(event("BLOCK_JOB_COMPLETED", device="job0", len=5)) == "job0"
    assert subject(event("BLOCK_IO_ERROR", **{"node-name": "src"})) == "src"
    assert subject({"event": "STOP"}) == ""
