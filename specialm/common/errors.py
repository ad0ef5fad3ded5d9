"""The exception for errors that the user can fix; the message says how."""


class UserError(Exception):
    """A setting, a path or an input is wrong. The message names it, its value and what to do.

    The command line prints only the message (no traceback) and exits with status 2.
    """
