"""What is raised when the user's input cannot be used."""


class InputError(ValueError):
    """Input that cannot be used as it is; the message names what is wrong and the cure.

    The command line prints the message on one line and exits with code 2, the docks show it as a
    notification. Anything else that is raised is a fault of the program.
    """
