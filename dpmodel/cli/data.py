"""Training data: find bad frames, convert other formats."""

from dpmodel.cli.commands import group

GROUP = group({None: ["check=data_check", "convert=data_convert"]}, help=__doc__, add_completion=False)
