"""What tools/visualize.py is made of: a net, its images, and one file a picture."""
