use serde::Serialize;
use tinderbox_protocol::Sats;

use crate::error::Result;
use crate::leaf::LeafStatus;
use crate::wallet::Wallet;

/// What a wallet has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Spendable now.
    pub available: Sats,
    /// On its way in: deposits that wait for confirmations, payments that wait to be claimed.
    pub incoming: Sats,
    /// On its way out: in payments that are neither done nor given back.
    pub outgoing: Sats,
    /// Owned, but only after a renewal can it be paid again; it can be exited.
    pub to_be_renewed: Sats,
    /// In leaves that are being exited or are on chain already.
    pub exiting: Sats,
}

impl Wallet {
    /// What the wallet has, after asking the operators.
    ///
    /// # Errors
    /// As [`sync`](Wallet::sync).
    pub async fn balance(&self) -> Result<Balance> {
        self.sync().await?;
        let pending = self.pending().await?;
        let mut balance = self.balance_of_leaves();
        let waiting = pending
            .iter()
            .fold(0, |sum, transfer| transfer.visible().0.saturating_add(sum));
        balance.incoming = Sats(balance.incoming.0.saturating_add(waiting));
        Ok(balance)
    }

    /// What the wallet has in leaves that it knows of, without asking anybody.
    pub fn balance_of_leaves(&self) -> Balance {
        let swept = self.swept();
        let pool = self.inner().pool();
        let mut balance = Balance::default();
        for leaf in pool.all().filter(|leaf| !swept.contains(&leaf.id)) {
            let part = match leaf.status {
                LeafStatus::Available if pool.is_free(leaf) && leaf.hops_left() > 0 => {
                    &mut balance.available
                }
                LeafStatus::Available if pool.is_free(leaf) => &mut balance.to_be_renewed,
                LeafStatus::Available if pool.reserved_by(&leaf.id).is_none() => {
                    &mut balance.exiting
                }
                LeafStatus::Creating => &mut balance.incoming,
                LeafStatus::RenewLocked => &mut balance.to_be_renewed,
                status if status.is_on_chain() => &mut balance.exiting,
                _ => &mut balance.outgoing,
            };
            *part = Sats(part.0.saturating_add(leaf.value.0));
        }
        balance
    }
}
