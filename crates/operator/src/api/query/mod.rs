//! Reading: nodes, balances, transfers, operators.

mod invoices;
mod nodes;
mod operators;
mod transfers;
mod walk;

pub use invoices::query_spark_invoices;
pub use nodes::{query_balance, query_nodes};
pub use operators::get_signing_operator_list;
pub use transfers::{query_all_transfers, query_pending_transfers};
