"""Sources of images: named data sets, folders, tar shards and the hub."""
