"""What the engine raises; each message names the cure."""


class UNetError(RuntimeError):
    """Base of the errors that the engine raises on purpose."""


class NotReady(UNetError):
    """Something was asked for before what it needs was there; the message says what to do first."""


class JobFailed(UNetError):
    """A job ended by an error that nobody foresaw; the cause is kept as ``__cause__``."""
