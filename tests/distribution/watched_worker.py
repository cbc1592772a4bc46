"""A worker that only watches: `watched_worker.py '{"hosts": [...], "index": 0, ...}'`.

It needs no TensorFlow, so that a test can start many.
"""

import json
import sys
import time

from official.alexnet.distribution import chief, watch
from official.alexnet.distribution.cluster import Cluster
from official.alexnet.errors import UserError

chief._DIAL_SECONDS = 3
given = json.loads(sys.argv[1])
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
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(error.status)
