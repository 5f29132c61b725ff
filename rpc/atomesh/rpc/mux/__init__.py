"""The mux: one long stream for all calls of a client at one copy of an agent, and for the slots they want.

Two ideas in one stream. *Speed*: gRPC's price in Python is paid per message,
so calls that are ready at the same time travel in one frame; the busier the
stream, the more of them. *Late binding*: a client keeps a call until an
endpoint has a slot for it, so no call waits behind a slow one while another
endpoint is idle. Waits are then those of one central queue, without a broker.

`protos/atomesh/v1/mux.proto` is the protocol, `docs/mux.md` the tour. In here:

=============== ==============================================================
`client_end`    what the client knows of a stream: calls out, grants in. Pure
`server_end`    what the endpoint knows of it: calls in, replies out. Pure
`slots`         what both sides of the endpoint agree on: claims to its slots
`parts`         large payloads cut into parts, and put together again. Pure
`deadlines`     which calls are out of time. Pure
`client_stream` the shell around the client's end: one stream
`client`        keeps one open: opens it, opens it again, rotates it
`server`        the shell around the endpoint's end: one stream served
=============== ==============================================================

The pure ends take frames and `now` and give frames and events; the shells
move frames. Nothing in either end is implied by the stream: deadline, context
and credentials are each call's own.
"""
