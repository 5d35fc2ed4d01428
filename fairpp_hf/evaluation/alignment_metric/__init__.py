"""The metric that `evaluate.load` takes from this folder, see `fairpp_hf.evaluation.metric_path`."""
