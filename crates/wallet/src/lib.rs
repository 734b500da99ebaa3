//! The Spark wallet: signer, sync, send, receive, exit
