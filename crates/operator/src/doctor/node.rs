//! The Bitcoin Core node.

use std::time::Duration;

use tinderbox_chain::{Rpc, RpcConfig};

use super::Report;
use crate::config::{BitcoinAuth, Config};

/// How long the node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the node; its height, if it is one that an operator can use.
pub(super) async fn examine(config: &Config, report: &mut Report) -> Option<u32> {
    let url = &config.bitcoin.url;
    let auth = match &config.bitcoin.auth {
        BitcoinAuth::Password(user, password) => RpcConfig::with_password(url, user, &password.0),
        BitcoinAuth::Cookie(path) => RpcConfig::with_cookie(url, path),
    };
    let looked = tokio::time::timeout(PATIENCE, async {
        let rpc = Rpc::new(auth)?;
        rpc.check(Some(config.network.bitcoin())).await?;
        let network = rpc.network_info().await?;
        let chain = rpc.blockchain_info().await?;
        Ok::<_, tinderbox_chain::Error>((network, chain))
    })
    .await;
    let (network, chain) = match looked {
        Ok(Ok(looked)) => looked,
        Ok(Err(error)) => {
            report.bad(
                "node",
                format!("{url}: {error}"),
                "check bitcoin.url, its user and password or cookie, and that the node is Bitcoin Core 29 or newer on the right network",
            );
            return None;
        }
        Err(_) => {
            report.bad(
                "node",
                format!("{url} does not answer within {} s", PATIENCE.as_secs()),
                "look at the node's log",
            );
            return None;
        }
    };
    report.good(
        "node",
        format!(
            "{url}: {} on {}, block {}",
            network.subversion, chain.chain, chain.blocks
        ),
    );
    let behind = chain.headers.saturating_sub(chain.blocks);
    if chain.initial_block_download && !config.is_local() || behind > 2 {
        report.bad(
            "node",
            format!("it is {behind} blocks behind what it knows of"),
            "wait until it has caught up: deposits and exits are not seen before",
        );
    }
    if chain.pruned {
        report.warning(
            "node",
            "it prunes: it forgets blocks that an operator may ask for after a long pause",
            "keep the operator running, or give the node more room (prune=0); txindex is not needed",
        );
    }
    Some(chain.blocks)
}
