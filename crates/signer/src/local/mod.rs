//! The signer in this process.
//!
//! ```text
//!  open, stage      packages in, staged tweaks out          open.rs, epoch.rs
//!  preimages        shares in, sealed; out at a certificate preimage.rs
//!  nonces           ahead of their use                      nonces.rs
//!  reserve          bound, at the vote                      claim.rs
//!  execute          signed and tweaked, at the commit       execute.rs, claim.rs
//!  settle, collect  what is obsolete is destroyed           settle.rs
//!  dkg              new key shares                          dkg.rs, runs.rs
//! ```
//!
//! Curve work runs on blocking threads, at most one request per core at a time; changes of the
//! vault happen under its lock in one go, after everything that can be refused has been checked.

mod claim;
mod config;
mod dkg;
mod epoch;
mod execute;
mod nonces;
mod open;
mod packages;
mod preimage;
mod runs;
mod settle;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::job::{KeyJob, KeyOutput, OpenedPreimage, OpenedTweak};
use tinderbox_flows::secret::{PreimageShare, SealedPreimage, SealedShare};
use tinderbox_frost::dkg::Round1Package;
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::clock::{Clock, SystemClock};
use crate::identity::Identity;
use crate::signer::{NewKeyshare, PackageKind, PlainTweak, PreimagePart, Signer};
use crate::vault::{Vault, VaultCounts};
use crate::{SignerError, work};

pub use config::LocalConfig;

/// Digests that are signed without going to another thread.
const FEW_DIGESTS: usize = 8;

/// A signer in this process: the identity key in memory, everything else in its vault.
pub struct Local {
    core: Arc<Core>,
}

/// What the threads share.
struct Core {
    identity: Identity,
    config: LocalConfig,
    clock: Arc<dyn Clock>,
    vault: Vault,
    packages: packages::Packages,
    epochs: epoch::Epochs,
    runs: runs::Runs,
    /// One permit per core: more requests than that at a time only get in each other's way.
    cores: Semaphore,
}

impl Local {
    /// Opens the vault at `vault`, or makes it.
    ///
    /// # Errors
    /// [`SignerError::Vault`] if the vault cannot be used, see its text,
    /// or if the settings contradict each other.
    pub fn open(
        identity: Identity,
        vault: &Path,
        config: LocalConfig,
    ) -> Result<Self, SignerError> {
        Self::open_with_clock(identity, vault, config, Arc::new(SystemClock))
    }

    /// As [`Local::open`], with another clock.
    ///
    /// # Errors
    /// As [`Local::open`].
    pub fn open_with_clock(
        identity: Identity,
        vault: &Path,
        config: LocalConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SignerError> {
        config.check()?;
        let vault = Vault::open(vault, &identity.public())?;
        Ok(Self {
            core: Arc::new(Core {
                identity,
                vault,
                clock,
                packages: packages::Packages::default(),
                epochs: epoch::Epochs::default(),
                runs: runs::Runs::default(),
                cores: Semaphore::new(config.threads.max(1)),
                config,
            }),
        })
    }

    /// How full the vault is.
    ///
    /// # Errors
    /// [`SignerError::Vault`] if the signer has failed before.
    pub fn counts(&self) -> Result<VaultCounts, SignerError> {
        Ok(self.core.vault.table()?.0.count())
    }

    /// How many times the vault was synced to disk since it was opened.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.core.vault.syncs()
    }
}

impl Core {
    /// Runs `work` on a blocking thread when a core is free.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, SignerError> + Send + 'static,
    ) -> Result<T, SignerError> {
        let _core = self
            .cores
            .acquire()
            .await
            .map_err(|_| SignerError::poisoned())?;
        let core = Arc::clone(self);
        work::blocking(move || work(&core)).await
    }
}

#[async_trait]
impl Signer for Local {
    fn identity(&self) -> PublicKey {
        self.core.identity.public()
    }

    async fn sign(&self, digests: Vec<[u8; 32]>) -> Result<Vec<Vec<u8>>, SignerError> {
        if digests.len() <= FEW_DIGESTS {
            let sign = |digest| self.core.identity.sign(digest);
            return Ok(digests.iter().map(sign).collect());
        }
        self.core
            .run(move |core| {
                Ok(work::map(digests, core.config.threads, |digest| {
                    core.identity.sign(&digest)
                }))
            })
            .await
    }

    async fn derive(&self, label: &str) -> Result<Zeroizing<[u8; 32]>, SignerError> {
        Ok(self.core.identity.derive(label))
    }

    async fn open(
        &self,
        kind: PackageKind,
        ciphertext: Vec<u8>,
    ) -> Result<Vec<OpenedTweak>, SignerError> {
        self.core
            .stage(move |core| core.decrypt(kind, &ciphertext))
            .await
    }

    async fn stage(&self, tweaks: Vec<PlainTweak>) -> Result<Vec<OpenedTweak>, SignerError> {
        self.core.stage(move |core| Ok(core.plain(tweaks))).await
    }

    async fn keep_preimage(
        &self,
        payment_hash: [u8; 32],
        part: PreimagePart,
    ) -> Result<OpenedPreimage, SignerError> {
        self.core.keep_preimage(&payment_hash, part)
    }

    async fn preimage_share(
        &self,
        payment_hash: [u8; 32],
        sealed: SealedPreimage,
    ) -> Result<PreimageShare, SignerError> {
        self.core.preimage_share(&payment_hash, &sealed)
    }

    async fn nonces(&self, count: u32) -> Result<Vec<NonceCommitment>, SignerError> {
        self.core.make_nonces(count).await
    }

    async fn reserve(&self, jobs: Vec<KeyJob>) -> Result<(), SignerError> {
        self.core.run(move |core| core.reserve(&jobs)).await
    }

    async fn execute(&self, jobs: Vec<KeyJob>) -> Result<Vec<KeyOutput>, SignerError> {
        let (outputs, ticket) = self.core.run(move |core| core.execute(&jobs)).await?;
        self.core.vault.durable(ticket).await?;
        Ok(outputs)
    }

    async fn settle(
        &self,
        shares: Vec<SealedShare>,
        nonces: Vec<NonceCommitment>,
    ) -> Result<(), SignerError> {
        self.core.settle(&shares, &nonces)
    }

    async fn retire(&self, epoch: u64) -> Result<(), SignerError> {
        self.core.retire(epoch)
    }

    async fn epoch(&self) -> Result<u64, SignerError> {
        let epoch = self.core.current_epoch()?;
        self.core.vault.durable(epoch.ticket).await?;
        Ok(epoch.number)
    }

    async fn purge_nonces(&self, age_seconds: u64) -> Result<u64, SignerError> {
        self.core
            .run(move |core| core.purge_nonces(age_seconds))
            .await
    }

    async fn dkg_round1(
        &self,
        run: [u8; 16],
        count: u32,
    ) -> Result<Vec<Round1Package>, SignerError> {
        let core = Arc::clone(&self.core);
        work::blocking(move || core.dkg_round1(run, count)).await
    }

    async fn dkg_round2(
        &self,
        run: [u8; 16],
        packages: BTreeMap<OperatorIndex, Vec<Round1Package>>,
    ) -> Result<BTreeMap<OperatorIndex, Vec<Zeroizing<[u8; 32]>>>, SignerError> {
        let core = Arc::clone(&self.core);
        work::blocking(move || core.dkg_round2(run, packages)).await
    }

    async fn dkg_take(
        &self,
        run: [u8; 16],
        from: OperatorIndex,
        shares: Vec<Zeroizing<[u8; 32]>>,
    ) -> Result<(), SignerError> {
        self.core.runs.keep(&run, from, shares)
    }

    async fn dkg_taken(&self, run: [u8; 16]) -> Result<u64, SignerError> {
        let count = self.core.runs.kept(&run, BTreeMap::len)?;
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    async fn dkg_finish(
        &self,
        run: [u8; 16],
        ids: Vec<[u8; 16]>,
        shares: BTreeMap<OperatorIndex, Vec<Zeroizing<[u8; 32]>>>,
    ) -> Result<Vec<NewKeyshare>, SignerError> {
        let core = Arc::clone(&self.core);
        let (keys, ticket) = work::blocking(move || core.dkg_finish(run, &ids, &shares)).await?;
        self.core.vault.durable(ticket).await?;
        Ok(keys)
    }

    async fn unsettled(&self, limit: u32) -> Result<Vec<[u8; 16]>, SignerError> {
        let (table, _) = self.core.vault.table()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(table.unsettled().take(limit).copied().collect())
    }

    async fn collect(
        &self,
        current: Vec<([u8; 16], SealedShare)>,
        age_seconds: u64,
    ) -> Result<u64, SignerError> {
        self.core
            .run(move |core| core.collect(&current, age_seconds))
            .await
    }
}
