//! Wallet settings, and who may read what.

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::rows::SettingRow;

use super::{Api, ApiError};
use crate::convert::spark::{QueryWalletSettingRequest, QueryWalletSettingResponse, WalletSetting};
use tinderbox_rpc::Caller;

impl Api {
    async fn setting(&self, owner: &PublicKey) -> Result<Option<SettingRow>, ApiError> {
        Ok(self.tables.get(owner.serialize()).await?)
    }

    /// True if `caller` may read transfers and addresses of `wallet`.
    ///
    /// # Errors
    /// A refusal if its session has expired and that matters: a wallet should authenticate again
    /// rather than believe that it owns nothing.
    pub async fn may_read(&self, caller: &Caller, wallet: &PublicKey) -> Result<bool, ApiError> {
        if caller.identity() == Some(wallet) {
            return Ok(true);
        }
        let Some(setting) = self
            .setting(wallet)
            .await?
            .filter(|setting| setting.private)
        else {
            return Ok(true);
        };
        let reader = caller.reader()?;
        Ok(reader.is_some() && setting.master.as_ref() == reader)
    }
}

/// What the caller's wallet has set; the defaults if it has set nothing.
pub async fn query_wallet_setting(
    api: Api,
    caller: Caller,
    _request: QueryWalletSettingRequest,
) -> Result<QueryWalletSettingResponse, ApiError> {
    let owner = caller.require()?;
    let setting = api.setting(&owner).await?;
    Ok(QueryWalletSettingResponse {
        wallet_setting: Some(WalletSetting {
            owner_identity_public_key: owner.serialize().to_vec(),
            private_enabled: setting.as_ref().is_some_and(|setting| setting.private),
            master_identity_public_key: setting
                .and_then(|setting| setting.master)
                .map(|master| master.serialize().to_vec()),
        }),
    })
}
