//! One binary for all tests: vectors, oracle, properties and hostile inputs.

mod adaptors;
mod common;
mod dkg_faults;
mod dkg_oracle;
mod encodings;
mod multiplication;
mod nonces;
mod sharing;
mod signing;
mod vectors_math;
mod vectors_sharing;
mod vectors_signing;
