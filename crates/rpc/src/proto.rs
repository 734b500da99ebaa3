//! Generated messages, clients and servers, one module per protobuf package.
//!
//! The files under `proto/` are the contract; field comments there say units and sizes.

#![allow(missing_docs, unreachable_pub, clippy::all)]

/// Shapes that several packages share.
pub mod common {
    tonic::include_proto!("common");
}
/// Signing authority made of several keys.
pub mod multisig {
    tonic::include_proto!("multisig");
}
/// Test-only controls of local networks.
pub mod mock {
    tonic::include_proto!("mock");
}
/// The service that wallets talk to.
pub mod spark {
    tonic::include_proto!("spark");
}
/// Sessions.
pub mod spark_authn {
    tonic::include_proto!("spark_authn");
}
/// What only service providers ask of operators.
pub mod spark_ssp_internal {
    tonic::include_proto!("spark_ssp_internal");
}
/// Tokens.
pub mod spark_token {
    tonic::include_proto!("spark_token");
}
/// Calls between operators.
pub mod peer {
    tonic::include_proto!("tinderbox.peer.v1");
}
