"""The CIFAR-10 nets of the paper's sections 3.1 and 3.3, and how they are trained."""
