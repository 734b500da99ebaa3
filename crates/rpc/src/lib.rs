//! Everything between a socket and a domain type: the protobuf contract and its generated code,
//! TLS, sessions, request validation, limits, error mapping and conversions.
//!
//! Protobuf types stop at this crate's users' edge: operators and wallets convert them with
//! `convert` and speak domain types behind it.

pub mod proto;
