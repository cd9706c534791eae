"""The errors a user of dpmodel can meet: each says where, what was expected, what came and what to do."""


def printable(text: str, keep: str = "") -> str:
    """``text`` with line breaks and what a terminal takes for commands escaped, characters to ``keep`` apart."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


class DpmodelError(ValueError):
    """Base of every error that dpmodel raises on purpose.  Messages quote files, so they are made ``printable``."""

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message), keep="\n"))


class SettingError(DpmodelError):
    """A setting is unknown, missing or out of range; the message names its path."""


class FileError(DpmodelError):
    """A file is damaged, foreign or disagrees with itself; the message names file and place, in one line."""

    def __init__(self, message: object = "") -> None:
        one_line = str(message).replace(":\n  ", ": ").replace("\n  ", "; ")  # of a SettingError
        super().__init__(printable(one_line))


class HeadError(FileError):
    """A file has several heads and none was chosen; ``heads`` names them."""

    heads: tuple[str, ...] = ()


class InputError(DpmodelError):
    """A structure or an argument cannot be used; the message names the frame and the atom."""


class BackendError(DpmodelError):
    """A backend is unknown, not installed or cannot do what was asked; the message says what would help."""


class NeighborOverflowWarning(UserWarning):
    """An atom has more neighbors than the model keeps; the farthest ones are ignored."""


class OutOfMemoryWarning(UserWarning):
    """The memory did not suffice; what was asked for is computed in smaller parts, which takes longer."""


class TrainingError(DpmodelError):
    """Training cannot go on; the message says at which step and what may be the reason."""
