"""Workers meet, agree, and stop when one of them is lost: with one clear line."""

import json
import pathlib
import socket
import sys
import time

import pytest
from worker_processes import ended, free_hosts, free_ports, started

WORKER = pathlib.Path(__file__).parent / "watched_worker.py"
LOST = 69
# Processes of a busy machine are given long to come up, not to stop.
TIMEOUT = 60
AGAIN = "start all workers again with the same command, without --clean"


def command(hosts: list[str], index: int, **given) -> list[str]:
    settings = {"hosts": hosts, "index": index, "timeout": TIMEOUT} | given
    return [sys.executable, str(WORKER), json.dumps(settings)]


def commands(count: int, **given) -> list[list[str]]:
    hosts = free_hosts(count)
    return [command(hosts, index, **given) for index in range(count)]


def assert_one_line(text: str, *words: str) -> None:
    assert len(text.splitlines()) == 1, text
    for word in words:
        assert word in text


def test_workers_meet_and_part():
    with started(commands(3)) as workers:
        for worker in workers:
            assert ended(worker, 60) == (0, "")


@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_worker_stops_the_others(victim):
    with started(commands(3, seconds=600)) as workers:
        for worker in workers:
            assert worker.stdout.readline() == "agreed\n"
        lost = workers.pop(victim)
        lost.kill()
        for worker in workers:
            status, line = ended(worker, 20)
            assert status == LOST
            assert_one_line(line, f"worker {victim} (127.0.0.1:", "ended", AGAIN)


@pytest.mark.parametrize("missing", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_worker_that_never_comes_is_named(missing):
    hosts = free_hosts(3)
    present = [i for i in range(3) if i != missing]
    with started([command(hosts, i, timeout=5) for i in present]) as workers:
        for worker in workers:
            status, line = ended(worker, 60)
            assert status == LOST
            name = f"worker {missing} ({hosts[missing]})"
            assert_one_line(
                line, name, "did not come up within 5 s", "--worker_timeout"
            )


def test_two_workers_of_one_index_on_one_machine():
    hosts = free_hosts(2)
    with started([command(hosts, 1)]) as (first,):
        wait_for(hosts[1])
        with started([command(hosts, 1)]) as (second,):
            status, line = ended(second, 60)
            assert status == 2
            assert_one_line(line, f"worker 1 ({hosts[1]}) cannot listen", "in use")
        assert first.poll() is None


@pytest.mark.parametrize("index", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_two_workers_of_one_index_on_two_machines(index):
    hosts, (other,) = free_hosts(3), free_ports(1)
    everybody = [command(hosts, 0), command(hosts, 1)]
    with started([*everybody, command(hosts, index, listens_on=other)]) as workers:
        for worker in workers:
            status, line = ended(worker, 60)
            assert status == 2
            assert_one_line(line, f"two processes say that they are worker {index} (")


def wait_for(host: str) -> None:
    name, port = host.split(":")
    for _ in range(300):
        try:
            socket.create_connection((name, int(port))).close()
            return
        except OSError:
            time.sleep(0.1)


def test_workers_of_other_lists():
    hosts = free_hosts(2)
    lists = [hosts, [hosts[0], "127.0.0.1:9"]]
    (other,) = free_ports(1)
    pair = [command(lists[0], 0), command(lists[1], 1, listens_on=other)]
    with started(pair) as workers:
        for worker in workers:
            status, line = ended(worker, 60)
            assert status == 2
            assert_one_line(line, *map(",".join, lists), "the same list")


def test_a_worker_started_again_before_all_were_there_takes_its_place():
    hosts = free_hosts(3)
    with started([command(hosts, 0), command(hosts, 1)]) as (chief, first):
        wait_for(hosts[1])
        time.sleep(1)
        first.kill()
        with started([command(hosts, 1)]) as (second,):
            wait_for(hosts[1])
            time.sleep(1)
            with started([command(hosts, 2)]) as (other,):
                for worker in (chief, second, other):
                    assert ended(worker, 60) == (0, "")


def test_what_differs_is_named_everywhere():
    hosts = free_hosts(3)
    values = [{"--seed": 3, "--lr": 1}, {"--seed": 3, "--lr": 1}, {"--seed": 4}]
    with started([command(hosts, i, values=values[i]) for i in range(3)]) as workers:
        for worker in workers:
            status, line = ended(worker, 60)
            assert status == 2
            names = [f"worker {i} ({hosts[i]})" for i in (2, 0)]
            assert_one_line(line, f"{names[0]} has --seed 4, {names[1]} 3")


@pytest.mark.parametrize("where", ["error", "barrier"])
def test_why_one_worker_stops_is_told_to_the_others(where):
    """It meets an error of its own, or cannot wait for the others at the end."""
    hosts = free_hosts(2)
    why = {where: "the disk is gone"}
    pair = [command(hosts, 0, seconds=600), command(hosts, 1, **why)]
    with started(pair) as (chief, worker):
        assert ended(worker, 60) == (2, "the disk is gone")
        status, line = ended(chief, 20)
        assert status == LOST
        assert_one_line(line, f"worker 1 ({hosts[1]}) has stopped: the disk is gone")


def test_an_error_of_all_workers_is_each_ones_own():
    with started(commands(3, error="the loss was nan")) as workers:
        for worker in workers:
            assert ended(worker, 60) == (2, "the loss was nan")


def test_after_a_signal_all_wait_for_the_chief_which_saves():
    hosts = free_hosts(2)
    said = {"saved": "saved after step 5"}
    pair = [command(hosts, 0, seconds=4, **said), command(hosts, 1, **said)]
    with started(pair) as (chief, worker):
        assert ended(worker, 60) == (75, "saved after step 5")
        assert chief.stdout.read() == "agreed\nworks\nsaved\n"
        assert chief.wait() == 75


def test_a_save_that_fails_after_a_signal_is_told_to_the_others():
    hosts = free_hosts(2)
    pair = [
        command(hosts, 0, seconds=2, error="the disk is full"),
        command(hosts, 1, saved="saved after step 5"),
    ]
    with started(pair) as (chief, worker):
        status, line = ended(worker, 60)
        assert status == LOST
        assert_one_line(line, f"worker 0 ({hosts[0]}) has stopped: the disk is full")
        assert ended(chief, 20) == (2, "the disk is full")


def test_a_worker_killed_after_the_others_were_done_is_lost_all_the_same():
    hosts = free_hosts(2)
    pair = [command(hosts, 0, seconds=600), command(hosts, 1)]
    with started(pair) as (chief, worker):
        for one in (chief, worker):
            assert one.stdout.readline() == "agreed\n"
        chief.kill()
        assert ended(worker, 20)[0] == LOST


def test_strangers_do_not_disturb():
    hosts = free_hosts(2)
    with started([command(hosts, 0)]) as (chief,):
        wait_for(hosts[0])
        for word in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"hello": 1}\n', b""):
            with socket.create_connection(
                ("127.0.0.1", int(hosts[0].split(":")[1]))
            ) as s:
                s.sendall(word)
        with started([command(hosts, 1)]) as (worker,):
            assert ended(worker, 60) == (0, "")
        assert ended(chief, 60) == (0, "")
