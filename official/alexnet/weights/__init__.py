"""Weights of AlexNet in the formats of Caffe, PyTorch and Keras, in and out."""

from official.alexnet.weights.files import WeightFile, check, read, write
from official.alexnet.weights.loading import load_into
from official.alexnet.weights.preprocessing import Preprocessing

__all__ = ["Preprocessing", "WeightFile", "check", "load_into", "read", "write"]
