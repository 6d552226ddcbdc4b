"""The private scvi-tools names that transpert needs, imported in one place.

Each is pinned down by a test, so that a new scvi-tools release that moves one fails there and not in a
user's session.
"""

from scvi.data._constants import _SETUP_ARGS_KEY as SETUP_ARGS_KEY  # noqa: F401
from scvi.data._constants import _SETUP_METHOD_NAME as SETUP_METHOD_NAME  # noqa: F401
