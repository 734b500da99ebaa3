//! Between protobuf messages and this crate's types. Nothing else here knows the wire's shapes but
//! the connections in `operators`.
//!
//! Everything read is checked for form only: keys are keys, ids are ids, transactions parse. Whether
//! they are true is for `verify`.

mod job;
mod node;
mod read;
mod transfer;

pub(crate) use job::{Commitments, commitments, half_signed, input_data};
pub(crate) use node::node;
pub(crate) use read::network;
pub(crate) use transfer::transfer;

pub(crate) use tinderbox_rpc::proto::{common, spark};
