# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of a job's status: all of it but the pauses that are QEMU's own; and what is not
told."""

from __future__ import annotations

from harness.clients.qmp_session import QmpEvent
from harness.systems.job_watch import JobWatch
from model.job_operations import Backup, JobPause, JobResume, Sync
from model.outcome import STATUS_CHANGE, JobView


def _watching() -> JobWatch:
    watch = JobWatch()
    watch.accepted(Backup("job", "src", "tmp", Sync.NONE))
    return watch


def _take(watch: JobWatch, *statuses: str) -> None:
    for status in statuses:
        watch.take(QmpEvent(STATUS_CHANGE, {"id": "job", "status": status}, (0, 0)))


def _told(watch: JobWatch) -> list[str]:
    return [str(dict(event.data).get("status", event.name)) for event in watch.take_events()]


def test_pauses_of_qemus_own_are_not_told() -> None:
    watch = _watching()
    _take(watch, "created", "running", "paused", "running", "paused")
    assert _told(watch) == ["created", "running"]
    assert list(watch.moving())
    _take(watch, "running", "paused", "running")
    assert _told(watch) == []


def test_a_pause_by_the_user_is_told_also_in_the_midst_of_another() -> None:
    for before in (("running",), ("running", "paused")):
        watch = _watching()
        _take(watch, "created", *before)
        watch.accepted(JobPause("job"))
        if before[-1] == "running":
            _take(watch, "paused")
        watch.accepted(JobResume("job"))
        _take(watch, "running")
        assert _told(watch) == ["created", "running", "paused", "running"]


def test_a_pause_by_an_error_is_told_after_the_error() -> None:
    watch = _watching()
    _take(watch, "created", "running")
    watch.take(QmpEvent("BLOCK_JOB_ERROR", {
        "device": "job", "operation": "read", "action": "stop"}, (0, 0)))
    _take(watch, "paused")
    assert _told(watch) == ["created", "running", "BLOCK_JOB_ERROR", "paused"]


def test_what_has_been_refused_is_no_job() -> None:
    watch = JobWatch()
    _take(watch, "created", "null")
    assert _told(watch) == []


def test_what_a_slow_job_discards_after_its_first_copy_is_waited_for_once() -> None:
    for discards in (False, True):
        watch = JobWatch()
        watch.accepted(Backup("job", "src", "tmp", Sync.FULL, speed=1, discard_source=discards))
        _take(watch, "running")
        assert not watch.look([JobView("job", "running", 0, 4096)])
        assert watch.must_be_asked
        assert watch.look([JobView("job", "running", 1024, 4096)]) == discards
        assert not watch.look([JobView("job", "running", 1024, 4096)])
        assert not watch.must_be_asked
