"""A worker is lost while TensorFlow sums over all: the others end with one line."""

import json
import signal
import sys
import time

import pytest
from links import needs_machines, two_machines
from test_watch import AGAIN, LOST, assert_one_line, command
from worker_processes import ended, free_hosts, started

pytestmark = pytest.mark.slow
WORKING = {"sums": True, "seconds": 600}


def wait_until_working(workers) -> None:
    for worker in workers:
        assert worker.stdout.readline() == "agreed\n"
        assert worker.stdout.readline() == "works\n"


def last_line(text: str) -> str:
    """The line of a worker that is lost: no traceback before it."""
    assert "Traceback" not in text
    return text.splitlines()[-1]


@pytest.mark.parametrize("victim", [0, 2])
@pytest.mark.parametrize(
    ("sent", "timeout", "within"),
    [(signal.SIGKILL, 120, 5), (signal.SIGSTOP, 10, 30)],
    ids=["killed", "hung"],
)
def test_a_worker_that_is(sent, timeout, within, victim):
    hosts = free_hosts(3)
    settings = WORKING | {"timeout": timeout}
    with started([command(hosts, i, **settings) for i in range(3)]) as workers:
        wait_until_working(workers)
        lost = workers.pop(victim)
        lost.send_signal(sent)
        for worker in workers:
            status, text = ended(worker, within)
            assert status == LOST, text
            assert_one_line(
                last_line(text), f"worker {victim} ({hosts[victim]})", AGAIN
            )


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_hangs_before_the_first_step(victim):
    hosts = free_hosts(2)
    given = [{"sums": True, "timeout": 10}] * 2
    given[victim] = given[victim] | {"wait": 600}
    with started([command(hosts, i, **given[i]) for i in range(2)]) as workers:
        assert workers[victim].stdout.readline() == "waits\n"
        workers[victim].send_signal(signal.SIGSTOP)
        status, text = ended(workers[1 - victim], 40)
        assert status == LOST, text
        assert_one_line(last_line(text), f"worker {victim} ({hosts[victim]})", AGAIN)


def test_a_worker_that_hangs_before_tensorflow_starts():
    hosts = free_hosts(2)
    given = [{"timeout": 5}, {"timeout": 5, "wait": 600}]
    with started([command(hosts, i, **given[i]) for i in range(2)]) as workers:
        assert workers[1].stdout.readline() == "waits\n"
        status, text = ended(workers[0], 30)
        assert status == LOST, text
        assert_one_line(text, "no answer", AGAIN)


# As in a notebook or an engine's worker, whose process goes on.
LIBRARY = """
import json, sys, threading
import official.alexnet

def train():
    try:
        official.alexnet.train(json.loads(sys.argv[2]), sys.argv[1])
    except official.alexnet.WorkerLost as lost:
        print(f"lost: {lost}", flush=True)

if sys.argv[3] == "thread":
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
else:
    train()
import tensorflow as tf
print(float(tf.reduce_sum(tf.ones(3))))
"""


@pytest.mark.parametrize(
    ("victim", "sent", "where"),
    [
        (0, signal.SIGKILL, "thread"),
        (1, signal.SIGKILL, "main"),
        (0, signal.SIGSTOP, "main"),
        (1, signal.SIGSTOP, "thread"),
    ],
)
def test_a_library_raises_and_its_process_goes_on(tmp_path, victim, sent, where):
    hosts, run = free_hosts(2), tmp_path / "run"
    settings = {
        **{"use_synthetic_data": True, "batch_size": 8, "num_classes": 3},
        **{"width": 0.125, "input_size": 64, "schedule": "constant"},
        **{"train_steps": 100_000, "log_steps": 5, "skip_eval": True, "num_gpus": 0},
        **{"distribution_strategy": "multi_worker_mirrored", "worker_timeout": 10},
        "worker_hosts": ",".join(hosts),
    }
    commands = [
        [sys.executable, "-c", LIBRARY, str(run), json.dumps(own), where]
        for own in (settings | {"task_index": index} for index in range(2))
    ]
    with started(commands) as workers:
        while not (run / "metrics.jsonl").exists():
            assert [worker.poll() for worker in workers] == [None, None]
            time.sleep(0.1)
        lost = workers.pop(victim)
        lost.send_signal(sent)
        printed, _ = workers[0].communicate(timeout=60)
        assert workers[0].returncode == 0
        line, total = printed.splitlines()
        assert line.startswith("lost: ")
        assert f"worker {victim} ({hosts[victim]})" in line
        assert line.endswith(AGAIN)
        assert total == "3.0"


def test_its_own_error_is_named_not_the_others():
    hosts = free_hosts(3)
    given = [WORKING, WORKING, {"sums": True, "seconds": 2, "error": "no space left"}]
    with started([command(hosts, i, **given[i]) for i in range(3)]) as workers:
        wait_until_working(workers)
        for worker in workers[:2]:
            status, text = ended(worker, 30)
            assert status == LOST, text
            named = f"worker 2 ({hosts[2]}) has stopped: no space left"
            assert_one_line(last_line(text), named)
        status, text = ended(workers[2], 30)
        assert (status, text.splitlines()[-1]) == (2, "no space left")


@needs_machines
@pytest.mark.parametrize(
    ("seconds", "timeout", "within"),
    [(10, 30, None), (25, 30, 45), (25, 120, 60), (None, 30, 45), (None, 120, 140)],
)
def test_a_link_that_is_cut(seconds, timeout, within):
    """For 10 s the run goes on; gRPC gives up a connection after 20 s."""
    with two_machines() as link:
        hosts = [f"{host}:2222" for host in link.hosts]
        settings = {"sums": True, "seconds": 600 if within else 25, "timeout": timeout}
        commands = [link.prefixes[i] + command(hosts, i, **settings) for i in range(2)]
        with started(commands) as workers:
            wait_until_working(workers)
            link.is_cut, end = True, time.monotonic() + (within or 90)
            if seconds:
                time.sleep(seconds)
                link.is_cut = False
            for worker in workers:
                status, text = ended(worker, end - time.monotonic())
                assert status == (LOST if within else 0), text
                if within:
                    assert_one_line(last_line(text), "worker 1 (10.77.0.2:2222)", AGAIN)
