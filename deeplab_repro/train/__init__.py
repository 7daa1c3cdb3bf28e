"""Training as Caffe did it: a net's layers forward and backward, the data, SGD, snapshots."""
