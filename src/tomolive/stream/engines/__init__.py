"""Document engines: the hub's promises on a broker that a facility already runs.

``registry`` finds the engine for an address. An engine gives a courier, which takes records from a
Publisher's spool to the broker, and a source, which gives a RemoteDispatcher its documents.
"""
