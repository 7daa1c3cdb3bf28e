"""Data sets in VOC's layout: predict a split, evaluate, cross-validate."""
