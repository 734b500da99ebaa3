//! Bitcoin Core over JSON-RPC: follower, broadcaster, private regtest node
