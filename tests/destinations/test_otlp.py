"""Tests of what a receiver of OTLP gets, over HTTP and gRPC, and what becomes of it if one is ill."""

import io
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest
from hypothesis import given, settings

from eliot_etw import (
    Action,
    add_destinations,
    log_message,
    remove_destination,
    start_action,
    write_traceback,
)
from eliot_etw._json import decode_line
from eliot_etw.destinations import FileDestination, OtlpDestination
from eliot_etw.otlp._spans_of import messages_in
from eliot_etw.parse import Parser
from tests._otlp_receiver import grpc_receiver, http_receiver
from tests.otlp.test_messages_of import hostile_logs, messages_of
from tests.test_hostile_values import HOSTILE
from tests.test_parse import is_permutation, logs

ROOT = Path(__file__).resolve().parents[2]
PLACE = {"task_uuid": "u", "task_level": [1], "timestamp": 1.5}
ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith("OTEL_")}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Have nothing of OpenTelemetry in the environment, and the SDK wait no longer than needed."""
    for name in os.environ.keys() - ENVIRONMENT.keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "50")


@pytest.fixture
def receiver():
    """Return a receiver that speaks HTTP."""
    with http_receiver() as receiver:
        yield receiver


@contextmanager
def sending(receiver, **options):
    """Have what is logged go to a receiver, and all of it be there after the block."""
    destination = OtlpDestination(endpoint=receiver.url, **options)
    add_destinations(destination)
    try:
        yield destination
    finally:
        remove_destination(destination)
        destination.close()


def settled(stats):
    """Count all that something became of."""
    return stats["delivered"] + stats["failed"] + stats["dropped"] + stats["dropped_as_reentrant"]


def fail():
    """Log a traceback, and fail."""
    try:
        raise OSError(5, "no disk")
    except OSError:
        write_traceback()
        raise


def wait_until(is_so):
    """Wait until something is so."""
    deadline = monotonic() + 30
    while not is_so():
        assert monotonic() < deadline
        sleep(0.005)


def roots(messages):
    """Return the trees of messages."""
    trees = {task.task_uuid: task.root() for task in Parser.parse_stream(messages)}
    return [trees[name] for name in sorted(trees)]


class TestReadBack:
    """The tree that is rebuilt from what a receiver got is the one that the file has."""

    def check(self, log, receiver, **options):
        """Log to a receiver and to a file, and compare."""
        receiver.items.clear()
        file = io.BytesIO()
        destination = OtlpDestination(endpoint=receiver.url, **options)
        for message in log:
            destination(message)
            FileDestination(file)(message)
        destination.close()
        written = [decode_line(line) for line in file.getvalue().splitlines()]
        assert is_permutation(written, messages_of(receiver.items))
        assert {**destination.stats(), "unfinished": 0} == {
            "queued": 0,
            "delivered": len(log),
            "failed": 0,
            "dropped": 0,
            "dropped_as_reentrant": 0,
            "unfinished": 0,
        }
        return written

    @pytest.mark.parametrize("messages", ["events", "logs", "spans"])
    def test_trees(self, messages):
        """Whatever trees are logged, over HTTP."""
        with http_receiver() as receiver:

            @given(logs())
            @settings(max_examples=20)
            def check(log):
                written = self.check(log, receiver, messages=messages)
                assert roots(written) == roots(messages_of(receiver.items))

            check()

    def test_trees_by_grpc(self):
        """Whatever trees are logged, over gRPC."""
        with grpc_receiver() as receiver:

            @given(logs())
            @settings(max_examples=10)
            def check(log):
                written = self.check(log, receiver, protocol="grpc")
                assert roots(written) == roots(messages_of(receiver.items))

            check()

    def test_any_messages(self):
        """Whatever messages are logged, whether they make sense or not."""
        with http_receiver() as receiver:

            @given(hostile_logs)
            @settings(max_examples=30)
            def check(log):
                self.check(log, receiver)

            check()

    @pytest.mark.parametrize("name", HOSTILE)
    def test_any_values(self, receiver, name):
        """Whatever values are logged."""
        value = HOSTILE[name]()
        start = {**PLACE, "task_uuid": "v", "action_type": "a", "action_status": "started"}
        log = [
            {"message_type": "t", "x": value, **PLACE},
            {**start, "x": value},
            {**PLACE, "task_uuid": "v", "task_level": [2], "x": [value]},
            {**start, "action_status": "failed", "task_level": [3], "x": value, "reason": value},
        ]
        self.check(log, receiver)

    def test_real_program(self, receiver, messages):
        """What real actions log, in several threads and with failures, comes back."""

        def work(task_id):
            with Action.continue_task(task_id=task_id):
                for number in range(300):
                    log_message("app:step", number=number)

        with sending(receiver):
            with start_action(action_type="app:all", path="é") as action:
                ids = [action.serialize_task_id() for _ in range(3)]
                threads = [threading.Thread(target=work, args=(task_id,)) for task_id in ids]
                for thread in threads:
                    thread.start()
                with pytest.raises(OSError, match="no disk"), start_action(action_type="app:part"):
                    fail()
                for thread in threads:
                    thread.join()
                action.add_success_fields(size_bytes=3)
            log_message("app:over")
        assert roots(messages) == roots(messages_of(receiver.items))
        assert len(messages) == sum(map(messages_in, receiver.items))
