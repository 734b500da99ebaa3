//! The Spark wallet: an SDK that holds leaves, pays, is paid, and can always leave alone.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use tinderbox_protocol::Sats;
//! use tinderbox_wallet::{Config, MemoryStorage, Wallet, new_words};
//!
//! # async fn example() -> tinderbox_wallet::Result<()> {
//! let words = new_words()?;
//! let wallet = Wallet::open(Config::local(3)?, &words, Arc::new(MemoryStorage::new()))?;
//! println!("send a deposit to {}", wallet.deposit_address().await?.address);
//! # let txid = "00".repeat(32).parse().unwrap();
//! wallet.claim_deposit(txid).await?;
//! println!("{:?}", wallet.balance().await?);
//!
//! let bob = wallet.parse_address("sparkl1…")?;
//! wallet.send(&bob, Sats(1000)).await?;
//! let _claims_while_it_lives = wallet.run_auto_claim();
//! # Ok(())
//! # }
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`Wallet`] | everything a person does; its methods live with their topic: `deposit`, `send`, `outcome`, `claim`, `renew`, `sync`, `balance`, `history`, `exits` |
//! | [`signer`] | who holds the keys |
//! | [`verify`] | what is checked before anything is believed |
//! | [`exit`] | leaving alone: a state machine on disk |
//! | [`storage`] | what is kept on disk |
//! | [`chain`] | what is asked of the chain |
//! | `operators`, `wire` | connections, and messages to and from them |

mod adopt;
mod auto_claim;
mod balance;
pub mod chain;
mod claim;
mod clock;
mod commitments;
mod config;
mod deposit;
mod error;
mod events;
pub mod exit;
mod exits;
mod history;
mod invoice;
mod leaf;
mod nodes;
mod operators;
mod outcome;
mod package;
mod pool;
mod renew;
mod roots;
pub mod select;
mod send;
pub mod signer;
pub mod storage;
mod sync;
#[cfg(test)]
mod testing;
mod transfer;
pub mod verify;
mod wallet;
pub mod watch;
mod wire;

pub use auto_claim::AutoClaim;
pub use balance::Balance;
pub use claim::{ClaimReport, Claimed};
pub use config::{BitcoindConfig, Config, OperatorConfig, TlsTrust};
pub use deposit::{DepositAddress, UnusedAddress};
pub use error::{Error, Result};
pub use events::WalletEvent;
pub use exit::{Bundle, ExitDriver, ExitEvent, ExitOptions, ExitReport, Rate, Wanted};
pub use exits::ExitEstimate;
pub use history::{Direction, HistoryEntry, HistoryPage};
pub use invoice::InvoiceTerms;
pub use leaf::{LeafStatus, Node};
pub use outcome::PaymentState;
pub use send::Payment;
pub use signer::{MemorySigner, WalletSigner, new_words};
pub use storage::{MemoryStorage, SqliteStorage, Storage};
pub use sync::SyncReport;
pub use transfer::{Receiver, Transfer, TransferKind, TransferLeaf, TransferStatus};
pub use wallet::Wallet;
