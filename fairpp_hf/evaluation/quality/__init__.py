"""The quality of a run: are the personas recognisable, consistent, and near their survey?"""

from fairpp_hf.evaluation.quality.quality import RunQuality, replies_quality, run_quality

__all__ = ["RunQuality", "replies_quality", "run_quality"]
