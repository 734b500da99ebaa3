//! Coins for everybody on a local network, and blocks on demand.
//!
//! The regtest node has no wallet. So a [`Faucet`] holds one key, mines coins for it on a fresh chain
//! ([`Faucet::fund`]) and pays from them ([`Faucet::send`]), and a [`Front`] on the port where SDKs expect
//! Bitcoin Core answers `sendtoaddress` from the faucet and passes every other call to the node.
//!
//! The keys are public. They exist on regtest only: every address here is encoded for regtest, and
//! [`Faucet::new`] refuses a node of another network.

mod coins;
mod error;
mod front;
mod fund;
mod keys;
mod mining;
mod payment;
mod request;

pub use error::Error;
pub use front::{Front, FrontConfig};
pub use keys::SdkFaucetKeys;
pub use mining::MiningTimer;

use std::sync::Arc;

use bitcoin::key::Keypair;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{Address, KnownHrp};
use tinderbox_chain::Rpc;
use tokio::sync::Mutex;

use coins::Coins;

/// Shorthand for results of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A source of regtest coins. Cheap to clone; calls may run at the same time.
#[derive(Clone)]
pub struct Faucet {
    inner: Arc<Inner>,
}

struct Inner {
    rpc: Rpc,
    secp: Secp256k1<All>,
    keypair: Keypair,
    address: Address,
    /// Held while a payment is made, so that two payments never take the same coin.
    coins: Mutex<Coins>,
}

impl Faucet {
    /// A faucet on this node, with the coins that its key has there.
    pub async fn new(rpc: Rpc) -> Result<Self> {
        rpc.check(Some(bitcoin::Network::Regtest)).await?;
        let secp = Secp256k1::new();
        let keypair = keys::own(&secp)?;
        let address = Address::p2tr(
            &secp,
            keypair.x_only_public_key().0,
            None,
            KnownHrp::Regtest,
        );
        let faucet = Self {
            inner: Arc::new(Inner {
                rpc,
                secp,
                keypair,
                address,
                coins: Mutex::default(),
            }),
        };
        faucet
            .refresh(&mut *faucet.inner.coins.lock().await)
            .await?;
        Ok(faucet)
    }

    /// The node.
    pub fn rpc(&self) -> &Rpc {
        &self.inner.rpc
    }

    /// Where the faucet's coins are; whoever pays here gives them back.
    pub fn address(&self) -> &Address {
        &self.inner.address
    }
}
