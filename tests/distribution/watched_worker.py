"""A worker that only watches: `watched_worker.py '{"hosts": [...], "index": 0, ...}'`.

With `"sums": true` it sums over all workers by TensorFlow meanwhile, 20 times a second;
else it needs no TensorFlow, so that a test can start many.
"""

import json
import sys
import time

from official.alexnet.distribution import watch
from official.alexnet.distribution.cluster import Cluster
from official.alexnet.errors import Interrupted, UserError

given = json.loads(sys.argv[1])
watch.ends_process = "raises" not in given
index = given["index"]
if "listens_on" in given:
    # As on another machine, where the port of the list is free; others are met as ever.
    listen, own = watch._listen, f"127.0.0.1:{given['listens_on']}"
    watch._listen = lambda cluster: listen(Cluster((own,), 0))


def meet():
    """Returns the watch, and what to do again and again."""
    cluster = Cluster(tuple(given["hosts"]), index)
    if not given.get("sums"):
        return watch.Watch(cluster, given["timeout"]), lambda: None
    from official.alexnet.distribution import strategy as strategy_lib  # noqa: PLC0415
    from official.alexnet.machine import RuntimeConfig  # noqa: PLC0415

    runtime = RuntimeConfig(
        "multi_worker_mirrored",
        num_gpus=0,
        worker_hosts=",".join(given["hosts"]),
        task_index=index,
        worker_timeout=given["timeout"],
    )
    placement = strategy_lib.place(runtime, 1)
    return placement.watch, placement.watch.barrier


try:
    workers, step = meet()
    with workers:
        if "wait" in given:
            print("waits", flush=True)
            time.sleep(given["wait"])
        workers.agree(given.get("values", {}))
        print("agreed", flush=True)
        for number in range(int(20 * given.get("seconds", 0))):
            step()
            if number == 5:
                print("works", flush=True)
            time.sleep(0.05)
        if "barrier" in given:

            def fail():
                raise UserError(given["barrier"])

            workers.barrier = fail
        if "error" in given:
            raise UserError(given["error"])
        if "saved" in given:
            print("saved", flush=True)
            raise Interrupted(given["saved"], is_saved=True)
except Interrupted as stopped:
    print(stopped, file=sys.stderr)
    sys.exit(75)
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(error.status)
