//! A network on free ports in a folder of its own, and wallets with coins.

use std::path::Path;
use std::sync::Arc;

use bitcoin::{Address, Amount, Network as BitcoinNetwork, Transaction, TxOut};
use futures::future::try_join_all;
use tempfile::TempDir;
use tinderbox_devnet::{DatabaseChoice, DevNet, Error, Plan, Ports};
use tinderbox_protocol::{Network, Sats};
use tinderbox_wallet::{MemorySigner, MemoryStorage, Wallet, new_words};

use super::{PATIENCE, eventually, program};

/// Blocks on top of a deposit until it counts.
pub(crate) const DEPTH: u32 = 3;
/// Times that ports are chosen anew.
const ATTEMPTS: u32 = 5;
/// Deposit addresses that a wallet asks for at the same time.
const AT_ONCE: usize = 8;

/// A folder that stays if its test fails, for its logs.
pub(crate) struct Folder(Option<TempDir>);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("tinderbox-e2e-")
            .tempdir()
            .expect("a temporary folder");
        Self(Some(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().expect("it is there until dropped").path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.0.take()
        {
            eprintln!("the network's folder is kept: {}", folder.keep().display());
        }
    }
}

/// A plan for three operators on free ports in `folder`.
pub(crate) fn plan(folder: &Folder, database: DatabaseChoice, keyshares: u32) -> Plan {
    let ports = Ports::free(3).expect("free ports");
    let plan = Plan::new(3, 2, folder.path().join("network"), ports).expect("a sound plan");
    Plan {
        database,
        keyshares,
        ..plan
    }
}

/// Starts it; ready when it returns.
pub(crate) async fn start(mut plan: Plan) -> DevNet {
    for _ in 0..ATTEMPTS {
        match DevNet::start(plan.clone(), program()).await {
            Ok(net) => return net,
            // A port that was free a moment ago: other tests start programs at the same time.
            Err(Error::Busy { .. }) => plan.ports = Ports::free(3).expect("free ports"),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no free ports after {ATTEMPTS} attempts");
}

/// A wallet with new words, and its signer for raw calls.
pub(crate) fn new_wallet(net: &DevNet, coordinator: u16) -> (Wallet, MemorySigner) {
    let words = new_words().expect("words");
    let config = net.wallet_config(coordinator).expect("a configuration");
    let signer = MemorySigner::from_words(&words, Network::Local, None).expect("a signer");
    let wallet = Wallet::open(config, &words, Arc::new(MemoryStorage::new())).expect("a wallet");
    (wallet, signer)
}

/// Pays `values` to new deposit addresses of a wallet each, in one transaction; buries and claims
/// it, and waits until the leaves can be spent.
pub(crate) async fn deposit(net: &DevNet, wallets: &[&Wallet], values: &[Sats]) -> Transaction {
    let mut outputs = Vec::new();
    for wallet in wallets {
        for values in values.chunks(AT_ONCE) {
            let addresses = try_join_all(values.iter().map(|_| wallet.deposit_address()));
            let addresses = addresses.await.expect("deposit addresses");
            for (value, address) in values.iter().zip(addresses) {
                outputs.push(coin(&address.address, *value));
            }
        }
    }
    let tx = net.faucet().send_many(&outputs).await.expect("coins");
    net.faucet().mine(DEPTH).await.expect("blocks");
    let txid = tx.compute_txid();
    let claims = wallets.iter().map(|wallet| wallet.claim_deposit(txid));
    try_join_all(claims).await.expect("claimed deposits");
    let total = values.iter().map(|value| value.0).sum();
    for wallet in wallets {
        eventually("a deposit can be spent", PATIENCE, || async {
            let balance = wallet.balance().await.map_err(|error| error.to_string())?;
            let found = balance.available;
            (found.0 >= total)
                .then_some(())
                .ok_or_else(|| found.to_string())
        })
        .await;
    }
    tx
}

/// An output to an address of the local network.
pub(crate) fn coin(address: &str, value: Sats) -> TxOut {
    let address: Address<_> = address.parse().expect("an address");
    let address = address
        .require_network(BitcoinNetwork::Regtest)
        .expect("of this network");
    TxOut {
        value: Amount::from_sat(value.0),
        script_pubkey: address.script_pubkey(),
    }
}

/// What operator `index` has logged.
pub(crate) fn log(folder: &Path, index: u16) -> String {
    let path = folder.join(format!("operator-{index}")).join("log");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// No operator has panicked.
pub(crate) fn assert_no_panic(folder: &Path, operators: u16) {
    for index in 0..operators {
        let log = log(folder, index);
        let panics: Vec<_> = log
            .lines()
            .filter(|line| line.contains("panicked"))
            .collect();
        assert!(panics.is_empty(), "operator {index}: {panics:#?}");
    }
}

/// A metric of operator `index`.
pub(crate) async fn metric(net: &DevNet, index: u16, name: &str) -> Result<f64, String> {
    let text = net
        .metrics(index)
        .await
        .map_err(|error| error.to_string())?;
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(found, _)| *found == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| format!("operator {index} has no metric {name}"))
}

/// Waits until no operator has an open flow.
pub(crate) async fn flows_have_ended(net: &DevNet) {
    for index in 0..net.plan().operators {
        eventually(
            &format!("flows of operator {index} end"),
            PATIENCE,
            || async move {
                let open = metric(net, index, "tinderbox_flows_open").await?;
                (open == 0.0)
                    .then_some(())
                    .ok_or_else(|| format!("{open} are open"))
            },
        )
        .await;
    }
}
