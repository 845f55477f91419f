"""What a user can get wrong."""


class UserError(Exception):
    """A mistake in the user's parameters, files or surroundings.

    Its text is one sentence that names the key, file or value and the remedy. Any other exception
    is a bug and keeps its traceback.
    """
