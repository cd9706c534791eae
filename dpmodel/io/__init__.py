"""Model files: the containers of deepmd-kit (``.dp``, ``.yaml``) and PyTorch checkpoints, as data."""
