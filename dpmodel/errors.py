"""The errors a user of dpmodel can meet: each says where, what was expected, what came and what to do."""


class DpmodelError(ValueError):
    """Base of every error that dpmodel raises on purpose."""


class SettingError(DpmodelError):
    """A setting is unknown, missing or out of range; the message names its path."""


class FileError(DpmodelError):
    """A file is damaged, foreign or disagrees with itself; the message names the file and the place in it."""


class InputError(DpmodelError):
    """A structure or an argument cannot be used; the message names the frame and the atom."""


class BackendError(DpmodelError):
    """A backend is unknown, not installed or cannot do what was asked; the message says what would help."""


class NeighborOverflowWarning(UserWarning):
    """An atom has more neighbors than the model keeps; the farthest ones are ignored."""


class TrainingError(DpmodelError):
    """Training cannot go on; the message says at which step and what may be the reason."""
