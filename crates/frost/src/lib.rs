//! Nested Spark-FROST, Feldman secret sharing, DKG, adaptor signatures and single-use nonces
