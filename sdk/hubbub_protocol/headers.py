"""The headers of a message that clients fill in and read by themselves."""

from .blobs import ATTACHMENTS
from .causal import BROADCASTS, CAUSE, HEADER, HOPS

IN_REPLY_TO = "in_reply_to"
"""The header that names the message an answer is to, where `parent` can't: in another topic, or when that message was
never stored. (A `parent` that the broker does not have would hold the answer back.)"""

REPLY_DURABLY = "reply_durably"
"""The header by which a request asks for an answer that is stored."""

ALWAYS = (HOPS, BROADCASTS, CAUSE, HEADER, ATTACHMENTS, IN_REPLY_TO, REPLY_DURABLY)
"""Those that come whatever a reader has selected. Without them a circle of agents would have no end that the broker
sees, and nobody could find what led to a message, fetch what it refers to, or answer it as was asked."""
