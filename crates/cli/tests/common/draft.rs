//! Payments that a wallet has made and signed but not sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use prost::Message as _;
use tinderbox_devnet::DevNet;
use tinderbox_protocol::{Network, Sats, SparkAddress};
use tinderbox_rpc::proto::spark::StartTransferRequest;
use tinderbox_wallet::storage::{Change, Kind};
use tinderbox_wallet::{Error, MemorySigner, MemoryStorage, Result, Storage, Wallet, new_words};

/// A wallet writes a payment down before it sends it: this storage can keep the text to itself and
/// fail, so that the payment is never sent.
#[derive(Default)]
struct Drawer {
    records: MemoryStorage,
    keeps: AtomicBool,
    kept: Mutex<Option<StartTransferRequest>>,
}

impl Storage for Drawer {
    fn get(&self, kind: Kind, key: &str) -> Result<Option<Vec<u8>>> {
        self.records.get(kind, key)
    }

    fn list(&self, kind: Kind) -> Result<Vec<(String, Vec<u8>)>> {
        self.records.list(kind)
    }

    fn apply(&self, changes: &[Change]) -> Result<()> {
        for change in changes {
            if let Change::Put {
                kind: Kind::PendingSend,
                value,
                ..
            } = change
                && self.keeps.load(Ordering::Relaxed)
            {
                let record: serde_json::Value = serde_json::from_slice(value).expect("JSON");
                let request = record["request"].as_str().expect("a request");
                let request = hex::decode(request).expect("hex");
                let request = StartTransferRequest::decode(&*request).expect("a request");
                *self.kept.lock().expect("no panic") = Some(request);
                return Err(Error::Storage {
                    path: "drawer".into(),
                    reason: "the payment is kept back".into(),
                });
            }
        }
        self.records.apply(changes)
    }
}

/// A wallet whose payments can be kept back, with its signer.
pub(crate) struct Draftsman {
    pub(crate) wallet: Wallet,
    pub(crate) signer: MemorySigner,
    drawer: Arc<Drawer>,
}

impl Draftsman {
    pub(crate) fn new(net: &DevNet) -> Self {
        Self::of(net, &new_words().expect("words"))
    }

    /// With words that are known before the network.
    pub(crate) fn of(net: &DevNet, words: &str) -> Self {
        let config = net.wallet_config(0).expect("a configuration");
        let drawer = Arc::new(Drawer::default());
        let wallet = Wallet::open(config, words, drawer.clone()).expect("a wallet");
        Self {
            wallet,
            signer: MemorySigner::from_words(words, Network::Local, None).expect("a signer"),
            drawer,
        }
    }

    /// A payment, signed and complete, that the operators have not seen. Its leaves are free.
    pub(crate) async fn draft(&self, to: &SparkAddress, amount: Sats) -> StartTransferRequest {
        self.drawer.keeps.store(true, Ordering::Relaxed);
        let error = self
            .wallet
            .send(to, amount)
            .await
            .expect_err("it is kept back");
        self.drawer.keeps.store(false, Ordering::Relaxed);
        assert!(error.to_string().contains("kept back"), "{error}");
        let kept = self.drawer.kept.lock().expect("no panic").take();
        kept.expect("a draft")
    }
}
