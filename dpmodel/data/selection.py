"""What a model's settings say of the neighbors it wants."""

from dpmodel.data.graph import Block, Selection
from dpmodel.errors import SettingError
from dpmodel.model.settings import ModelSettings


def selection(settings: ModelSettings) -> Selection:
    """Cutoffs and numbers of neighbors of the blocks of a model."""
    d = settings.descriptor
    if not d.resolved:
        raise SettingError('model.descriptor: nsel is "auto"; it becomes a number when training counts the neighbors')
    three_body = Block(d.repinit.three_body_rcut, int(d.repinit.three_body_sel)) if d.repinit.use_three_body else None
    return Selection(
        repinit=Block(d.repinit.rcut, int(d.repinit.nsel)),
        repformer=Block(d.repformer.rcut, int(d.repformer.nsel)),
        three_body=three_body,
        n_types=settings.n_types,
        pair_exclude=settings.pair_exclude_types,
        truncate=d.truncate,
    )
