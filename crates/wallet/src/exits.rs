//! A wallet's exit.

use std::collections::BTreeSet;
use std::time::Duration;

use bitcoin::Address;
use bitcoin::address::NetworkUnchecked;
use tinderbox_protocol::{LeafId, Sats};

use crate::error::{Error, Result};
use crate::exit::{Bundle, ExitDriver, ExitOptions, ExitPath, ExitState, Rate, estimate};
use crate::storage::Kind;
use crate::wallet::Wallet;

/// How long operators may take to answer before an exit goes on without them.
const LAST_LOOK: Duration = Duration::from_secs(10);

/// What an exit would take.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ExitEstimate {
    /// Leaves with a stored exit.
    pub leaves: usize,
    /// What they hold.
    pub value: Sats,
    /// What fees would take at present, funding for packages included.
    pub cost: Sats,
    /// The rate that was assumed.
    pub rate: Rate,
    /// Where coins must be that pay for the packages.
    pub funding_address: String,
    /// What is on that address.
    pub funding: Sats,
}

impl Wallet {
    /// Where to send coins that pay for an exit's packages.
    pub fn funding_address(&self) -> Address {
        self.inner()
            .signer
            .funding_address(self.inner().config.network)
    }

    /// Reads a bitcoin address and checks its network.
    ///
    /// # Errors
    /// [`Error::BadAddress`].
    pub fn parse_destination(&self, text: &str) -> Result<Address> {
        let bad = |reason: String| Error::BadAddress {
            text: text.to_owned(),
            what: "bitcoin address",
            reason,
        };
        let network = self.inner().config.network;
        text.trim()
            .parse::<Address<NetworkUnchecked>>()
            .map_err(|e| bad(e.to_string()))?
            .require_network(network.bitcoin())
            .map_err(|_| bad(format!("it is of another network than {network}")))
    }

    /// Exits that are stored, of all leaves that the wallet believes to own.
    ///
    /// # Errors
    /// As the storage.
    pub fn exit_paths(&self) -> Result<Vec<ExitPath>> {
        Ok(self
            .inner()
            .records
            .list::<ExitPath>(Kind::ExitPath)?
            .into_iter()
            .map(|(_, path)| path)
            .collect())
    }

    /// What exiting everything would take now.
    ///
    /// # Errors
    /// If the chain source does not answer.
    pub async fn exit_estimate(&self, rate: Option<Rate>) -> Result<ExitEstimate> {
        let rate = match rate {
            Some(rate) => rate,
            None => Rate::from_fee_rate(self.inner().chain.fee_rate(3).await?),
        };
        let paths = self.exit_paths()?;
        let coins = self
            .inner()
            .chain
            .coins_of(&self.inner().signer.funding_script())
            .await?;
        let sum = |values: &mut dyn Iterator<Item = Sats>| {
            Sats(values.fold(0, |s, v| s.saturating_add(v.0)))
        };
        Ok(ExitEstimate {
            leaves: paths.len(),
            value: sum(&mut paths.iter().map(|path| path.value)),
            cost: estimate(&paths, rate),
            rate,
            funding_address: self.funding_address().to_string(),
            funding: sum(&mut coins.iter().map(|coin| coin.value)),
        })
    }

    /// Begins a unilateral exit. Operators are asked for a last time what this wallet owns, but are not needed: a
    /// leaf that another device has spent meanwhile must not be exited. Drive it with [`ExitDriver::step`] or
    /// [`ExitDriver::run`]; its leaves cannot be spent any more.
    ///
    /// # Errors
    /// [`Error::ExitRunning`], [`Error::NothingToExit`], [`Error::UnknownLeaf`].
    pub async fn exit(&self, options: ExitOptions) -> Result<ExitDriver> {
        let inner = self.inner();
        if let Some(leaves) = &options.leaves
            && let Some(id) = leaves
                .iter()
                .find(|id| inner.pool().reserved_by(id).is_some())
        {
            return Err(Error::UnknownLeaf { id: *id });
        }
        match tokio::time::timeout(LAST_LOOK, self.sync()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::info!(%error, "the operators are not asked before the exit"),
            Err(_) => tracing::info!("the operators did not answer in time before the exit"),
        }
        let network = inner.config.network;
        let (signer, chain, records) = (
            inner.signer.clone(),
            inner.chain.clone(),
            inner.records.clone(),
        );
        let driver = ExitDriver::start(signer, chain, records, network, options).await?;
        self.keep_from_spending(driver.state());
        Ok(driver)
    }

    /// Goes on with the exit that is under way.
    ///
    /// # Errors
    /// [`Error::NoExit`].
    pub fn resume_exit(&self) -> Result<ExitDriver> {
        let inner = self.inner();
        let (signer, chain, records) = (
            inner.signer.clone(),
            inner.chain.clone(),
            inner.records.clone(),
        );
        let driver = ExitDriver::resume(signer, chain, records, inner.config.network)?;
        self.keep_from_spending(driver.state());
        Ok(driver)
    }

    /// Where the stored exit stands, if there is one.
    ///
    /// # Errors
    /// As the storage.
    pub fn exit_state(&self) -> Result<Option<ExitState>> {
        ExitDriver::stored(&self.inner().records)
    }

    /// Everything that another device needs, besides the words, to exit without any operator.
    ///
    /// # Errors
    /// As the storage.
    pub fn export_bundle(&self) -> Result<Bundle> {
        let inner = self.inner();
        Bundle::export(
            &inner.records,
            inner.config.network,
            inner.signer.identity(),
        )
    }

    /// Takes a bundle over; how many exits were new.
    ///
    /// # Errors
    /// [`Error::Bundle`], [`Error::ExitRunning`].
    pub fn import_bundle(&self, bundle: &Bundle) -> Result<usize> {
        let inner = self.inner();
        let imported = bundle.import(
            &inner.records,
            inner.config.network,
            inner.signer.identity(),
        )?;
        if let Some(exit) = self.exit_state()? {
            self.keep_from_spending(&exit);
        }
        Ok(imported)
    }

    fn keep_from_spending(&self, state: &ExitState) {
        let taken: BTreeSet<LeafId> = state.taken().collect();
        self.inner().pool().set_exiting(taken);
    }
}
