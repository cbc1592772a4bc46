"""A worker that only watches: `watched_worker.py '{"hosts": [...], "index": 0, ...}'`.

It needs no TensorFlow, so that a test can start many.
"""

import json
import sys
import time

from official.alexnet.distribution import chief, watch
from official.alexnet.distribution.cluster import Cluster
from official.alexnet.errors import Interrupted, UserError

chief._DIAL_SECONDS = 3
given = json.loads(sys.argv[1])
watch._SIGNAL_GRACE_SECONDS = given.get("grace", 60)
if "listens_on" in given:
    # As on another machine, where the port of the list is free.
    listen = watch.messages.listen
    watch.messages.listen = lambda port: listen(given["listens_on"])
try:
    cluster = Cluster(tuple(given["hosts"]), given["index"])
    with watch.Watch(cluster, given["timeout"]) as workers:
        workers.agree(given.get("values", {}))
        print("agreed", flush=True)
        time.sleep(given.get("seconds", 0))
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
