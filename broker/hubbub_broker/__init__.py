"""The Hubbub broker: durable, replayable conversations for teams of agents, over WebSocket and HTTP on one port.

Floors, lowest first; a lower one knows an upper one only as a callable handed to it:

    quantity policy setting config sources logs metrics origin wire ticker      leaves, for any floor
    log/                                    records on disk
    shard/                                  order and fan-out
    session/  http/                         connected agents; the HTTP doors
    broker server                           one process: its shards, its port, its shutdown
    cli/                                    the `hubbub` command
"""
