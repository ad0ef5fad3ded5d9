"""The one exception that means: the user can fix this, and the message says how."""


class UserError(Exception):
    """A setting, a path or an input is wrong. The message names it, its value and what to do.

    The command line prints the message alone (no traceback) and exits with status 2.
    """
