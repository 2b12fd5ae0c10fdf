"""Where images come from: named data sets, folders, tar shards, the hub."""
