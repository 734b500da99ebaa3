//! What an operator does all the time.

use std::sync::Arc;
use std::time::Duration;

use tinderbox_chain::BlockRef;
use tinderbox_flows::record::Index;
use tinderbox_store::Scan;
use tokio::sync::watch;

use crate::Core;
use crate::api::Api;
use crate::api::events::Hub;
use crate::chain::Duties;

/// How often the pool of key shares is looked at.
const REFILL: Duration = Duration::from_secs(1);
/// Key shares that are made before all others.
const FIRST_KEYSHARES: u32 = 64;
/// The first pause after a refill that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after a refill that failed.
const REFILL_PAUSE: Duration = Duration::from_secs(10);
/// How often it is read how far another process is.
const READ_TIP: Duration = Duration::from_millis(250);
/// How often staged tweaks that nobody needs are made unreadable.
const RETIRE: Duration = Duration::from_secs(60);

/// Keeps the pools full. A few key shares first, so that the first wallets need not wait.
pub(super) async fn refill(api: Api, target: u32) {
    let mut pause = FIRST_PAUSE;
    let mut wanted = target.min(FIRST_KEYSHARES);
    loop {
        let limit = usize::try_from(wanted).unwrap_or(usize::MAX);
        let have = api.keyshares.count(limit).await;
        if let Ok(have) = have {
            let have = u32::try_from(have).unwrap_or(u32::MAX);
            metrics::gauge!("tinderbox_keyshares_available").set(f64::from(have));
        }
        // One run makes many: it begins when a tenth is gone.
        let enough = limit.saturating_sub(limit / 10);
        let made = match have {
            Ok(have) if have >= enough => Ok(0),
            _ => api.keyshares.refill(wanted).await,
        };
        match made {
            Ok(made) => {
                if made > 0 {
                    tracing::info!(made, "key shares were made");
                }
                pause = if wanted == target {
                    REFILL
                } else {
                    Duration::ZERO
                };
                wanted = target;
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "no key shares were made; trying again");
                pause = (pause.max(FIRST_PAUSE) * 2).min(REFILL_PAUSE);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Fetches nonces ahead, once there are key shares: then everybody is up.
pub(super) async fn warm(api: Api) {
    while !matches!(api.keyshares.count(1).await, Ok(1..)) {
        tokio::time::sleep(FIRST_PAUSE).await;
    }
    api.nonces.warm().await;
}

/// While another process of this operator follows the chain: how far it is.
pub(super) async fn read_tip(
    duties: Duties,
    held: watch::Receiver<bool>,
    tip: Arc<watch::Sender<Option<BlockRef>>>,
) {
    loop {
        tokio::time::sleep(READ_TIP).await;
        if *held.borrow() {
            continue;
        }
        match duties.tip().await {
            Ok(now) => {
                if let Some(block) = now {
                    metrics::gauge!("tinderbox_chain_height").set(f64::from(block.height.0));
                }
                tip.send_if_modified(|known| {
                    let new = *known != now;
                    *known = now;
                    new
                });
            }
            Err(error) => tracing::warn!(%error, "the chain's progress could not be read"),
        }
    }
}

/// Makes tweaks unreadable that were staged and that no transfer needs any more.
pub(super) async fn retire(core: Core) {
    loop {
        tokio::time::sleep(RETIRE).await;
        let round = async {
            let current = core
                .signer
                .epoch()
                .await
                .map_err(|error| error.to_string())?;
            let mut scan = Scan::prefix(Index::StagedByEpoch, &[]);
            scan.limit = 1;
            // Of several kinds: the list alone says it.
            let needed = core
                .store
                .scan(scan)
                .await
                .map_err(|error| error.to_string())?
                .first()
                .and_then(|found| found.listed.first_chunk::<8>())
                .map(|epoch| u64::from_be_bytes(*epoch));
            let lowest = needed.unwrap_or(current).min(current);
            core.signer
                .retire(lowest)
                .await
                .map_err(|error| error.to_string())
        };
        if let Err(error) = round.await {
            tracing::warn!(%error, "old staged tweaks could not be retired; trying again");
        }
    }
}

/// Forgets event streams whose wallets hung up.
pub(super) async fn sweep(hub: Hub) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        hub.sweep();
    }
}
