"""The main job, end to end, on a laptop: `fairpp demo`."""
