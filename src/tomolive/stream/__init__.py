"""Move documents: codec, journal, hub, Publisher and RemoteDispatcher."""
