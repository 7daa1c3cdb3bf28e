"""ToyVOC: drawn scenes with labels, to train and to show a small DeepLab on."""
