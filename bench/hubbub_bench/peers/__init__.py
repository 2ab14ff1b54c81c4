"""What load is put on: brokers that are started here, or are there already."""

from .address import Address, BadAddress
from .process import BrokerProcess, PeerError

__all__ = ["Address", "BadAddress", "BrokerProcess", "PeerError"]
