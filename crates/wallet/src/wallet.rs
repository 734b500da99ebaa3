use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bitcoin::Txid;
use serde::{Deserialize, Serialize};
use tinderbox_chain::Rpc;
use tinderbox_protocol::{LeafId, Network, SparkAddress, TransferId};
use tokio::sync::broadcast;

use crate::chain::WalletChain;
use crate::claim::Claims;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::events::WalletEvent;
use crate::exit::ExitDriver;
use crate::leaf::Node;
use crate::operators::Operators;
use crate::outcome::Sending;
use crate::package::Recipients;
use crate::pool::Pool;
use crate::send::PendingSend;
use crate::signer::{MemorySigner, WalletSigner};
use crate::storage::{Kind, Records, Storage};

/// A Spark wallet. Cheap to clone; all clones are one wallet, and safe to use at the same time.
///
/// Opening asks nobody: operators are contacted when they are needed, so that an exit works without
/// them.
#[derive(Clone)]
pub struct Wallet {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) signer: Arc<dyn WalletSigner>,
    pub(crate) records: Records,
    pub(crate) operators: Operators,
    pub(crate) chain: Arc<dyn WalletChain>,
    pub(crate) events: broadcast::Sender<WalletEvent>,
    /// Transfers that this process claims, or has claimed.
    claims: Mutex<Claims>,
    /// Payments that this process is sending.
    pub(crate) sending: Sending,
    /// When the chain was last asked about a tree's root.
    pub(crate) roots_seen: Mutex<HashMap<Txid, Instant>>,
    /// One synchronisation at a time; says whether there was one yet.
    pub(crate) synced: tokio::sync::Mutex<bool>,
    pool: Mutex<Pool>,
}

/// Whose wallet a storage holds.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Owner {
    network: Network,
    identity: bitcoin::secp256k1::PublicKey,
}

/// The only key of [`Kind::Owner`].
const OWNER: &str = "wallet";

/// Events that a slow listener may fall behind.
const EVENTS: usize = 256;

impl Inner {
    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn identity_bytes(&self) -> Vec<u8> {
        self.signer.identity().serialize().to_vec()
    }

    /// The operators, as packages are made for them.
    pub(crate) fn recipients(&self) -> Recipients {
        Recipients {
            keys: self
                .operators
                .all()
                .iter()
                .map(|operator| (operator.index(), *operator.identity()))
                .collect(),
            threshold: self.operators.threshold(),
        }
    }

    /// Tells whoever listens.
    pub(crate) fn tell(&self, event: WalletEvent) {
        // Nobody listening is no error.
        let _ = self.events.send(event);
    }
}

impl Wallet {
    /// Opens a wallet from its words, with Bitcoin Core as the configuration says.
    ///
    /// # Errors
    /// [`Error::Words`], [`Error::Config`], and what a storage of another wallet gives
    /// ([`Error::WrongOwner`]).
    pub fn open(config: Config, words: &str, storage: Arc<dyn Storage>) -> Result<Self> {
        config.check()?;
        let signer = Arc::new(MemorySigner::from_words(
            words,
            config.network,
            config.account,
        )?);
        let chain = Arc::new(Rpc::new(config.bitcoind.rpc()?)?);
        Self::open_with(config, signer, storage, chain)
    }

    /// Opens a wallet with any signer and chain source.
    ///
    /// # Errors
    /// As [`open`](Wallet::open).
    pub fn open_with(
        config: Config,
        signer: Arc<dyn WalletSigner>,
        storage: Arc<dyn Storage>,
        chain: Arc<dyn WalletChain>,
    ) -> Result<Self> {
        config.check()?;
        let records = Records::new(storage);
        claim_storage(&records, &config, &*signer)?;
        let operators = Operators::new(&config, &signer)?;
        let mut pool = Pool::default();
        for (id, pending) in records.list::<PendingSend>(Kind::PendingSend)? {
            let id = id.parse::<TransferId>()?;
            pool.hold(id, &pending.leaves);
        }
        if let Some(exit) = ExitDriver::stored(&records)? {
            pool.set_exiting(exit.taken().collect());
        }
        let inner = Inner {
            config,
            signer,
            records,
            operators,
            chain,
            events: broadcast::channel(EVENTS).0,
            claims: Mutex::default(),
            sending: Sending::default(),
            roots_seen: Mutex::default(),
            synced: tokio::sync::Mutex::new(false),
            pool: Mutex::new(pool),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Where this wallet is paid.
    pub fn address(&self) -> SparkAddress {
        SparkAddress::new(self.inner.config.network, self.inner.signer.identity())
    }

    /// What it was opened with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Reads an address to pay, and checks that it is of this wallet's network and no invoice.
    ///
    /// # Errors
    /// [`Error::WrongNetwork`], [`Error::IsInvoice`], [`Error::BadAddress`].
    pub fn parse_address(&self, text: &str) -> Result<SparkAddress> {
        let bad = |reason: String| Error::BadAddress {
            text: text.to_owned(),
            what: "Spark address",
            reason,
        };
        let text = text.trim();
        match text.parse::<SparkAddress>() {
            Ok(address) if address.network == self.inner.config.network => Ok(address),
            Ok(address) => Err(Error::WrongNetwork {
                found: address.network,
                expected: self.inner.config.network,
            }),
            Err(_) if text.parse::<tinderbox_protocol::SparkInvoice>().is_ok() => {
                Err(Error::IsInvoice)
            }
            Err(error) => Err(bad(error.to_string())),
        }
    }

    /// The leaves of the last synchronisation and what happened since.
    pub fn leaves(&self) -> Vec<Node> {
        let swept = self.swept();
        let pool = self.inner.pool();
        pool.all()
            .filter(|leaf| !swept.contains(&leaf.id))
            .cloned()
            .collect()
    }

    /// Leaves that were exited and swept: operators still name us as their owner.
    pub(crate) fn swept(&self) -> BTreeSet<LeafId> {
        let swept = self
            .inner
            .records
            .list::<Txid>(Kind::Swept)
            .unwrap_or_default();
        swept.iter().filter_map(|(id, _)| id.parse().ok()).collect()
    }

    /// The payment that holds a leaf, if one does.
    pub fn reserved_by(&self, leaf: &LeafId) -> Option<TransferId> {
        self.inner.pool().reserved_by(leaf)
    }

    /// What happens in this wallet from now on.
    pub fn events(&self) -> broadcast::Receiver<WalletEvent> {
        self.inner.events.subscribe()
    }
}

/// Writes down whose storage it is, or checks it.
fn claim_storage(records: &Records, config: &Config, signer: &dyn WalletSigner) -> Result<()> {
    let ours = Owner {
        network: config.network,
        identity: signer.identity(),
    };
    let name = |owner: &Owner| format!("{} on {}", owner.identity, owner.network);
    match records.get::<Owner>(Kind::Owner, OWNER)? {
        Some(owner) if owner == ours => Ok(()),
        Some(owner) => Err(Error::WrongOwner {
            found: name(&owner),
            expected: name(&ours),
        }),
        None => records.put(Kind::Owner, OWNER, &ours),
    }
}
