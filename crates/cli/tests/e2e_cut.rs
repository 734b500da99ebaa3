//! Connections that are cut after every frame in turn, between wallets and operators and between
//! operators: what was asked for happens exactly once.

mod common;

use std::net::SocketAddr;

use futures::future::join_all;
use tinderbox_devnet::DevNet;
use tinderbox_protocol::{Sats, TransferId};
use tinderbox_testkit::proxy::{Cut, Direction, Proxy};
use tinderbox_wallet::{Error, MemoryStorage, PaymentState, TransferStatus, Wallet, new_words};

use common::network::{self, DEPTH, Folder, coin};
use common::{PATIENCE, database, eventually};

const OPERATORS: u16 = 3;
const LEAF: Sats = Sats(10_000);
/// Leaves of each wallet: together they make more hops than there are frames to cut at.
const LEAVES: usize = 8;
/// A request has fewer frames than this.
const MOST: u64 = 60;

/// The operator that wallets use as their coordinator, and to which they come through the proxy.
const COORDINATOR: u16 = 0;

async fn proxy_to(port: u16) -> Proxy {
    Proxy::start(SocketAddr::from(([127, 0, 0, 1], port)))
        .await
        .expect("a proxy")
}

/// A wallet that reaches its coordinator through a proxy.
fn wallet_through(net: &DevNet, proxy: &Proxy) -> Wallet {
    let mut config = net.wallet_config(COORDINATOR).expect("a configuration");
    config.operators[usize::from(COORDINATOR)].url =
        format!("https://localhost:{}", proxy.address().port());
    let words = new_words().expect("words");
    let storage = std::sync::Arc::new(MemoryStorage::new());
    Wallet::open(config, &words, storage).expect("a wallet")
}

/// Pays one leaf, and again until it is known to be paid: with one id, however often it is asked.
async fn pay(from: &Wallet, to: &Wallet) -> TransferId {
    let address = to.address();
    eventually("a payment is made", PATIENCE, || async {
        match from.send(&address, LEAF).await {
            Ok(payment) => Ok(payment.id),
            Err(Error::OutcomeUnknown { id, .. }) => match outcome(from, id).await {
                true => Ok(id),
                false => Err("it was not paid".to_owned()),
            },
            Err(error) => {
                let _ = from.sync().await;
                Err(error.to_string())
            }
        }
    })
    .await
}

/// Waits until the wallet knows what became of a payment. True if it was paid.
async fn outcome(wallet: &Wallet, id: TransferId) -> bool {
    eventually("the outcome is known", PATIENCE, || async move {
        match wallet.payment_state(id).await {
            Ok(PaymentState::Paid) => Ok(true),
            Ok(PaymentState::Returned | PaymentState::NotMade) => Ok(false),
            Ok(PaymentState::Open) => Err("it is open".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

/// Claims until the wallet has so much.
async fn claim_until(wallet: &Wallet, expected: u64) {
    eventually("a payment is claimed", PATIENCE, || async {
        wallet
            .claim_pending()
            .await
            .map_err(|error| error.to_string())?;
        let available = wallet
            .balance()
            .await
            .map_err(|error| error.to_string())?
            .available;
        (available.0 == expected)
            .then_some(())
            .ok_or_else(|| available.to_string())
    })
    .await;
}

/// Two wallets that pay each other in turn, so that their leaves last.
struct Pair {
    wallets: [Wallet; 2],
    held: [u64; 2],
    payments: usize,
}

impl Pair {
    async fn new(net: &DevNet, wallets: [Wallet; 2]) -> Self {
        let [alice, bob] = &wallets;
        network::deposit(net, &[alice, bob], &[LEAF; LEAVES]).await;
        let each = LEAF.0 * LEAVES as u64;
        Self {
            wallets,
            held: [each; 2],
            payments: 0,
        }
    }

    /// One payment and its claim, each with its own fault.
    async fn round(&mut self, before_payment: impl FnOnce(), before_claim: impl FnOnce()) {
        let (from, to) = (self.payments % 2, (self.payments + 1) % 2);
        self.payments += 1;
        before_payment();
        pay(&self.wallets[from], &self.wallets[to]).await;
        self.held[from] -= LEAF.0;
        self.held[to] += LEAF.0;
        before_claim();
        claim_until(&self.wallets[to], self.held[to]).await;
    }

    /// Everything that was paid was paid once, and nothing is on its way.
    async fn assert_exact(&self, proxies: &[&Proxy]) {
        for proxy in proxies {
            proxy.calm();
        }
        for (wallet, held) in self.wallets.iter().zip(self.held) {
            claim_until(wallet, held).await;
            let page = wallet.history(100, 0).await.expect("its transfers");
            let made = page.entries;
            assert_eq!(made.len(), self.payments, "{made:?}");
            for transfer in made {
                assert_eq!(transfer.status, TransferStatus::Completed, "{transfer:?}");
            }
        }
    }
}

async fn end(mut net: DevNet) {
    net.ready().await.expect("all operators are up");
    network::flows_have_ended(&net).await;
    let place = net.plan().folder.clone();
    net.stop().await.expect("it stops");
    network::assert_no_panic(&place, OPERATORS);
    database::remove(&place, OPERATORS).await;
}

/// The handler's connection goes in the middle of a request, which goes on without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_34_wallet_cut_off_after_any_segment_pays_and_claims_exactly_once() {
    let folder = Folder::new();
    let net = network::start(network::plan(&folder, database::any(), 40)).await;
    let port = net.plan().ports.public[usize::from(COORDINATOR)];
    let proxy = proxy_to(port).await;
    let wallets = [wallet_through(&net, &proxy), wallet_through(&net, &proxy)];
    let mut pair = Pair::new(&net, wallets).await;
    let mut uncut = 0;
    for frames in 1..MOST {
        let cut = [Cut::Close, Cut::Reset][usize::try_from(frames % 2).expect("0 or 1")];
        let direction = match frames % 3 {
            0 => None,
            1 => Some(Direction::ToServer),
            _ => Some(Direction::ToClient),
        };
        let before = proxy.cuts();
        pair.round(
            || proxy.cut_after(frames, direction, cut),
            || proxy.cut_after(frames, direction, cut),
        )
        .await;
        proxy.calm();
        // Rounds so late that neither a payment nor a claim has so many frames.
        uncut = if proxy.cuts() == before { uncut + 1 } else { 0 };
        if uncut == 3 {
            break;
        }
    }
    assert_eq!(uncut, 3, "a payment has not so many frames");
    assert!(
        proxy.cuts() >= 12,
        "only {} connections were cut",
        proxy.cuts()
    );
    println!("{} payments, {} cuts", pair.payments, proxy.cuts());
    pair.assert_exact(&[&proxy]).await;
    end(net).await;
}

/// The coordinator loses the others, one after the other, in the middle of votes and commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_40_operators_cut_off_from_each_other_after_any_segment_pay_and_claim_exactly_once() {
    let folder = Folder::new();
    let mut net = network::start(network::plan(&folder, database::any(), 40)).await;
    let place = net.plan().folder.clone();
    let ports = net.plan().ports.peer.clone();
    // From the coordinator to each other operator goes through a proxy.
    let proxies = join_all(ports.iter().skip(1).map(|port| proxy_to(*port))).await;
    net.kill(COORDINATOR).await;
    let file = place
        .join(format!("operator-{COORDINATOR}"))
        .join("operator.toml");
    let mut config = std::fs::read_to_string(&file).expect("a configuration");
    for (port, proxy) in ports.iter().skip(1).zip(&proxies) {
        let (direct, around) = (format!("127.0.0.1:{port}"), proxy.address().to_string());
        assert!(config.contains(&direct));
        config = config.replace(&direct, &around);
    }
    std::fs::write(&file, config).expect("written");
    net.restart(COORDINATOR).expect("it starts");
    net.ready().await.expect("it is ready");
    let (alice, _) = network::new_wallet(&net, COORDINATOR);
    let (bob, _) = network::new_wallet(&net, COORDINATOR);
    let mut pair = Pair::new(&net, [alice, bob]).await;
    let passed: u64 = proxies
        .iter()
        .map(|proxy| proxy.passed(Direction::ToServer))
        .sum();
    assert!(passed > 20, "operators do not talk through the proxies");
    for frames in 1..24 {
        let place = usize::try_from(frames % 2).expect("0 or 1");
        let proxy = &proxies[place];
        let cut =
            [Cut::Close, Cut::Reset, Cut::HalfClose][usize::try_from(frames % 3).expect("few")];
        pair.round(
            || proxy.cut_after(frames, Some(Direction::ToServer), cut),
            || proxy.cut_after(frames, Some(Direction::ToClient), cut),
        )
        .await;
        for proxy in &proxies {
            proxy.calm();
        }
    }
    let cuts: u64 = proxies.iter().map(Proxy::cuts).sum();
    assert!(cuts >= 12, "only {cuts} connections were cut");
    // Both at random, for a while.
    for (seed, proxy) in (1..).zip(&proxies) {
        proxy.break_by(seed, 12, std::time::Duration::from_millis(5));
    }
    for _ in 0..6 {
        pair.round(|| (), || ()).await;
    }
    println!("{} payments, {cuts} cuts and more", pair.payments);
    let all: Vec<&Proxy> = proxies.iter().collect();
    pair.assert_exact(&all).await;
    // The proxies go first: the coordinator must live with that, too.
    end(net).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deposit_cut_off_after_any_segment_becomes_one_leaf() {
    let folder = Folder::new();
    let net = network::start(network::plan(&folder, database::any(), 60)).await;
    let port = net.plan().ports.public[usize::from(COORDINATOR)];
    let proxy = proxy_to(port).await;
    let wallet = wallet_through(&net, &proxy);
    let mut expected = 0;
    let mut uncut = 0;
    for frames in 1..MOST {
        let before = proxy.cuts();
        proxy.cut_after(frames, None, Cut::Close);
        let address = eventually("an address", PATIENCE, || async {
            wallet
                .deposit_address()
                .await
                .map_err(|error| error.to_string())
        })
        .await;
        proxy.calm();
        let output = coin(&address.address, LEAF);
        let tx = net.faucet().send_many(&[output]).await.expect("coins");
        net.faucet().mine(DEPTH).await.expect("blocks");
        proxy.cut_after(frames, None, Cut::Reset);
        let txid = tx.compute_txid();
        expected += LEAF.0;
        eventually("a deposit is claimed", PATIENCE, || async {
            let _ = wallet.claim_deposit(txid).await;
            let available = wallet
                .balance()
                .await
                .map_err(|error| error.to_string())?
                .available;
            (available.0 == expected)
                .then_some(())
                .ok_or_else(|| available.to_string())
        })
        .await;
        proxy.calm();
        uncut = if proxy.cuts() == before { uncut + 1 } else { 0 };
        if uncut == 2 {
            break;
        }
    }
    assert_eq!(uncut, 2, "a deposit has not so many frames");
    wallet.sync().await.expect("it reads");
    let leaves = wallet.leaves();
    let total: u64 = leaves.iter().map(|leaf| leaf.value.0).sum();
    assert_eq!(total, expected);
    println!("{} deposits, {} cuts", leaves.len(), proxy.cuts());
    end(net).await;
}
