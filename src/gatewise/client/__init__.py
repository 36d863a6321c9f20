"""The client of ``gatewise serve``: ``gatewise.Client``, with httpx alone (extra ``client``)."""

from gatewise.client.client import Client
from gatewise.client.replies import Answer, Classification, Score, Step, TaggedSentence, Token
from gatewise.client.session import Session

__all__ = ["Answer", "Classification", "Client", "Score", "Session", "Step", "TaggedSentence", "Token"]
