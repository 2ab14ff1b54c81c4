"""What load is put on: brokers that are started here, or are there already."""

from .address import Address, BadAddress
from .process import BrokerProcess, PeerError
from .scrape import scrape

__all__ = ["Address", "BadAddress", "BrokerProcess", "PeerError", "scrape"]
