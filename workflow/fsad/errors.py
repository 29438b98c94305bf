"""The one exception type for mistakes that the user can mend."""


class UserError(Exception):
    """Wrong input or option; the message names the culprit and the remedy."""
