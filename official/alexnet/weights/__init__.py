"""Weights from files of Caffe, PyTorch and Keras, and into them."""
