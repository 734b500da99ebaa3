//! The operator's tables, behind one trait.
//!
//! A [`Store`] keeps versioned rows under keys, lists them under sorted index keys, and applies
//! conditional batches: all of a batch or nothing of it. Batches that arrive together share one
//! database transaction (group commit), with a handful of statements however many they are.
//!
//! | module | is |
//! |---|---|
//! | [`store`] | the trait and its rules |
//! | [`scan`] | ranges of an index |
//! | [`reader`] | typed reading on top of the trait |
//! | [`database`] | the configuration string and [`open`] |
//! | [`sqlite`] | one file for one process: the default |
//! | [`postgres`] | one schema, shared by any number of processes |
//! | [`memory`] | for the simulator and tests, with fault injection |
//! | `suite` | the claims that every backend must satisfy (feature `suite`) |
//!
//! Both databases have the same two tables: `record` holds the rows, `listing` the index entries.
//! What a group of batches does to them is decided in memory, in one place (`group`).

pub mod counters;
pub mod database;
pub mod error;
mod group;
pub mod memory;
pub mod postgres;
pub mod reader;
pub mod scan;
pub mod sqlite;
pub mod store;
#[cfg(feature = "suite")]
pub mod suite;

pub use counters::Counters;
pub use database::{Database, open};
pub use error::StoreError;
pub use memory::{Fault, Memory};
pub use postgres::Postgres;
pub use reader::Reader;
pub use scan::{Found, Scan, successor};
pub use sqlite::Sqlite;
pub use store::Store;
