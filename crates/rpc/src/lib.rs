//! Protobuf contract, TLS, sessions, error mapping and conversions
