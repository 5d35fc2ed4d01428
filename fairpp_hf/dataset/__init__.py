"""The dataset: `load_dataset("fairpp")`, the sources of answers, and dataset folders.

Kept empty, since `import fairpp_hf` passes through here to register the name.
"""
