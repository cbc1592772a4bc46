"""Names records that are whole but cannot be used.

A record that cannot be used keeps its place in its batch, with weight 0, so that the
others' places and with them crops, order and resuming stay as they are.
"""

import threading

import numpy as np
from absl import logging

from official.alexnet.data import faults, reading
from official.alexnet.data.records import Records

# Bad records that one data set names in the log; more are only counted.
_NAMED = 5


class Log:
    """Names the first bad records of one data set in the log, each once.

    Args:
        records: the files they are from.
    """

    def __init__(self, records: Records):
        self._records = records
        self._named: set[int] = set()
        self._lock = threading.Lock()

    def __call__(self, tags: np.ndarray, serialized: np.ndarray) -> None:
        """Logs bad records of a batch.

        Args:
            tags: (count,) int64; see `reading.place_of`.
            serialized: (count,) bytes.
        """
        # Batches are loaded side by side.
        with self._lock:
            for tag, record in zip(tags.tolist(), serialized.tolist(), strict=True):
                if len(self._named) < _NAMED and tag not in self._named:
                    self._named.add(tag)
                    self._name(tag, record)

    def _name(self, tag: int, record: bytes) -> None:
        file, number = reading.place_of(tag)
        path, reason = self._records.files[file], faults.fault(record, self._records)
        logging.warning("skipped %s: record %d %s", path, number, reason)
        if len(self._named) == _NAMED:
            logging.warning("More bad records are counted, but not named.")
