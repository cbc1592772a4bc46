"""`alexnet-train` on a disk so slow that a checkpoint takes a minute."""

import time

import tensorflow as tf

from official.alexnet.train import run

write = tf.train.Checkpoint.write


def slow_write(self, path, *args, **kwargs):
    time.sleep(60)
    return write(self, path, *args, **kwargs)


if __name__ == "__main__":
    tf.train.Checkpoint.write = slow_write
    run()
