//! Wallet settings, and who may read what.

use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{Request, SettingRequest};
use tinderbox_flows::rows::{Privacy, SettingRow};

use super::{Api, ApiError};
use crate::convert::field::{malformed, missing, public_key};
use crate::convert::spark::update_wallet_setting_request::MasterIdentityPublicKey as Master;
use crate::convert::spark::{
    QueryWalletSettingRequest, QueryWalletSettingResponse, UpdateWalletSettingRequest,
    UpdateWalletSettingResponse, WalletSetting,
};
use tinderbox_rpc::Caller;

/// Attempts while another device of the wallet changes the same settings.
const ATTEMPTS: u32 = 5;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(100);

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
        match self.setting(wallet).await? {
            Some(setting) if !setting.allows(None) => Ok(setting.allows(caller.reader()?)),
            _ => Ok(true),
        }
    }

    /// True if `caller` may see the leaves and the balance of `wallet`: everybody may, unless this
    /// operator is configured to hide them together with transfers.
    ///
    /// # Errors
    /// As [`Api::may_read`].
    pub async fn may_see_leaves(
        &self,
        caller: &Caller,
        wallet: &PublicKey,
    ) -> Result<bool, ApiError> {
        if !self.hide_balances {
            return Ok(true);
        }
        self.may_read(caller, wallet).await
    }
}

/// Changes what the request names, on all operators.
pub async fn update_wallet_setting(
    api: Api,
    caller: Caller,
    request: UpdateWalletSettingRequest,
) -> Result<UpdateWalletSettingResponse, ApiError> {
    let owner = caller.require()?;
    let master = match &request.master_identity_public_key {
        None => None,
        Some(Master::SetMasterIdentityPublicKey(key)) => {
            Some(Some(public_key("set_master_identity_public_key", key)?))
        }
        Some(Master::ClearMasterIdentityPublicKey(true)) => Some(None),
        Some(Master::ClearMasterIdentityPublicKey(false)) => {
            return Err(malformed(
                "clear_master_identity_public_key",
                "false changes nothing: leave it out".to_owned(),
            )
            .into());
        }
    };
    if request.private_enabled.is_none() && master.is_none() {
        return Err(missing("private_enabled or master_identity_public_key").into());
    }
    let mut last = Refusal::new(Reason::LockConflict, "try again");
    for _ in 0..ATTEMPTS {
        let flow = SettingRequest {
            now: api.now(),
            owner,
            private: request.private_enabled,
            master,
        };
        match api.run(Request::Setting(Box::new(flow))).await {
            Ok(_) => {
                let setting = api.setting(&owner).await?;
                return Ok(UpdateWalletSettingResponse {
                    wallet_setting: Some(shown(owner, setting.as_ref())),
                });
            }
            Err(refusal) if refusal.reason == Reason::LockConflict => last = refusal,
            Err(refusal) => return Err(refusal.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last.into())
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
        wallet_setting: Some(shown(owner, setting.as_ref())),
    })
}

fn shown(owner: PublicKey, setting: Option<&SettingRow>) -> WalletSetting {
    let Privacy { private, master } = setting.map_or_else(Privacy::default, |row| row.current);
    WalletSetting {
        owner_identity_public_key: owner.serialize().to_vec(),
        private_enabled: private,
        master_identity_public_key: master.map(|master| master.serialize().to_vec()),
    }
}
