//! Starting and stopping an operator.
//!
//! [`Operator::start`] puts the parts together, opens the listeners and sets the background tasks
//! going; [`Running`] is what it gives; [`run`] does both for a program.

mod error;
mod parts;
mod running;
mod start;
mod tasks;

pub use error::StartError;
pub use running::{Running, run};
pub use start::Operator;
