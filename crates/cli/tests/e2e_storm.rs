//! 300 payments among eight wallets while operators are killed with SIGKILL and started again at
//! random moments. Afterwards no leaf is lost, doubled or stuck, every operator tells the same of
//! every leaf and payment, and no flow is open: all of that without help.
//!
//! `TINDERBOX_STORM_SEED` repeats the choices of an earlier run; what the machine makes of them
//! differs each time.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tinderbox_devnet::{DatabaseChoice, DevNet};
use tinderbox_flows::record::Index;
use tinderbox_flows::rows::FlowRow;
use tinderbox_protocol::{LeafId, Sats, SparkAddress, TransferId};
use tinderbox_rpc::proto::spark::{TransferStatus as WireStatus, TreeNode};
use tinderbox_store::{Reader, Scan};
use tinderbox_wallet::{Error, LeafStatus, MemorySigner, PaymentState, Wallet};
use tokio::sync::watch;

use common::network::{self, Folder};
use common::raw::Caller;
use common::{PATIENCE, database, eventually};

const WALLETS: usize = 8;
const OPERATORS: u16 = 3;
const PAYMENTS: u64 = 300;
/// Leaves per wallet. A leaf makes 19 hops at most; this is a third of that on average, and no
/// leaf that is paid at random comes near the end.
const LEAVES: usize = 6;
/// Value of each.
const LEAF: Sats = Sats(10_000);
/// Payments between two kills, at most.
const CALM: u64 = 14;
/// After so long a storm that is not over is one that hangs.
const STORM: Duration = Duration::from_secs(480);
/// A person who is told to try again waits so long.
const PAUSE: Duration = Duration::from_millis(250);

/// One test at a time: they want the same two cores.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_survive_operators_killed_at_random_on_sqlite() {
    if let Some(database) = database::sqlite() {
        storm(database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_survive_operators_killed_at_random_on_postgres() {
    if let Some(database) = database::postgres() {
        storm(database).await;
    }
}

fn seed() -> u64 {
    match std::env::var("TINDERBOX_STORM_SEED") {
        Ok(text) => text.parse().expect("TINDERBOX_STORM_SEED is a number"),
        Err(_) => rand::random(),
    }
}

async fn storm(database: DatabaseChoice) {
    let _turn = TURN.lock().await;
    let seed = seed();
    let begun = Instant::now();
    println!("{}: TINDERBOX_STORM_SEED={seed}", database.name());
    let folder = Folder::new();
    let keyshares = u32::try_from(WALLETS * LEAVES).expect("few") + 20;
    let mut net = network::start(network::plan(&folder, database, keyshares)).await;
    let place = net.plan().folder.clone();

    let (wallets, signers): (Vec<Wallet>, Vec<MemorySigner>) = (0u16..)
        .take(WALLETS)
        .map(|number| network::new_wallet(&net, number % OPERATORS))
        .unzip();
    let all: Vec<&Wallet> = wallets.iter().collect();
    network::deposit(&net, &all, &[LEAF; LEAVES]).await;
    let deposited: BTreeSet<LeafId> = wallets.iter().flat_map(owned).collect();
    assert_eq!(deposited.len(), WALLETS * LEAVES);
    println!("ready after {:.1} s", begun.elapsed().as_secs_f64());

    let storm = Storm::new(wallets, seed);
    let outages = Mutex::new(Outages::default());
    let over = tokio::time::timeout(STORM, async {
        tokio::join!(storm.payments(), storm.kills(&mut net, &outages));
    });
    if over.await.is_err() {
        panic!("the storm is not over: {}", storm.report());
    }
    println!(
        "{} payments after {:.1} s; {}; {}",
        PAYMENTS,
        begun.elapsed().as_secs_f64(),
        outages.into_inner().expect("no panic"),
        storm.report()
    );

    net.ready().await.expect("all operators are up");
    storm.settle().await;
    network::flows_have_ended(&net).await;
    storm.assert_every_leaf_has_one_owner(&deposited);
    assert_operators_tell_the_same(&net, &storm, &signers).await;
    storm.assert_no_protocol_error();
    net.stop().await.expect("it stops");
    assert_no_flow_is_open(&place).await;
    network::assert_no_panic(&place, OPERATORS);
    database::remove(&place, OPERATORS).await;
    println!("all of it: {:.1} s", begun.elapsed().as_secs_f64());
}

/// What was done to the operators.
#[derive(Debug, Default)]
struct Outages {
    /// Processes killed.
    kills: u32,
    /// Times that all of them were down at once.
    total: u32,
    /// Processes killed while they were starting.
    starting: u32,
}

impl std::fmt::Display for Outages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} processes killed, {} of them while starting, {} times all at once",
            self.kills, self.starting, self.total
        )
    }
}

/// A payment that its sender knows to be done.
#[derive(Clone, Debug)]
struct Paid {
    id: TransferId,
    from: usize,
    to: Vec<(usize, Sats)>,
}

/// How many payments there were.
#[derive(Clone, Copy, Debug, Default)]
struct Turns {
    /// Begun, or done.
    begun: u64,
    /// Known to be done.
    done: u64,
}

impl Turns {
    fn are_over(&self) -> bool {
        self.done == PAYMENTS
    }
}

struct Storm {
    wallets: Vec<Wallet>,
    seed: u64,
    turns: watch::Sender<Turns>,
    ledger: Mutex<Vec<Paid>>,
    /// Errors that senders met, by kind.
    met: Mutex<BTreeMap<String, u64>>,
    /// Errors that no outage explains.
    unexplained: Mutex<Vec<String>>,
}

impl Storm {
    fn new(wallets: Vec<Wallet>, seed: u64) -> Self {
        Self {
            wallets,
            seed,
            turns: watch::Sender::default(),
            ledger: Mutex::default(),
            met: Mutex::default(),
            unexplained: Mutex::default(),
        }
    }

    fn rng(&self, stream: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_add(stream))
    }

    /// All payments, each wallet's one after the other.
    async fn payments(&self) {
        // Some wallets claim what the event stream tells, the others when they look.
        let _claims: Vec<_> = self
            .wallets
            .iter()
            .step_by(2)
            .map(Wallet::run_auto_claim)
            .collect();
        let payers = (0..self.wallets.len()).map(|from| async move {
            let mut rng = self.rng(1 + from as u64);
            while self.takes_turn().await {
                if let Some(paid) = self.pay(from, &mut rng).await {
                    self.ledger.lock().expect("no panic").push(paid);
                    self.turns.send_modify(|turns| turns.done += 1);
                } else {
                    // It has paid all it has. Somebody else pays in its place.
                    self.turns.send_modify(|turns| turns.begun -= 1);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        join_all(payers).await;
    }

    /// Waits until another payment is to be made: false if all are done.
    async fn takes_turn(&self) -> bool {
        let mut turns = self.turns.subscribe();
        loop {
            let mut taken = false;
            self.turns.send_if_modified(|turns| {
                taken = turns.begun < PAYMENTS;
                turns.begun += u64::from(taken);
                taken
            });
            if taken {
                return true;
            }
            let free = turns.wait_for(|turns| turns.are_over() || turns.begun < PAYMENTS);
            if free.await.expect("the sender lives").are_over() {
                return false;
            }
        }
    }

    /// One payment, tried until it is done; nothing if the wallet has nothing to pay with.
    async fn pay(&self, from: usize, rng: &mut StdRng) -> Option<Paid> {
        let wallet = &self.wallets[from];
        loop {
            self.claim(from).await;
            let to = self.receivers(from, rng);
            let payments: Vec<(SparkAddress, Sats)> = to
                .iter()
                .map(|(to, amount)| (self.wallets[*to].address(), *amount))
                .collect();
            match wallet.pay_many(&payments).await {
                Ok(payment) => {
                    return Some(Paid {
                        id: payment.id,
                        from,
                        to,
                    });
                }
                Err(Error::OutcomeUnknown { id, .. }) => {
                    self.note("outcome unknown".to_owned());
                    if self.outcome(from, id).await {
                        return Some(Paid { id, from, to });
                    }
                }
                Err(Error::Insufficient { .. } | Error::NoExactAmount { .. }) => return None,
                Err(error) => {
                    self.note_error("pay", &error);
                    let _ = wallet.sync().await;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Mostly one leaf to one wallet; now and then two leaves, or two wallets in one payment.
    fn receivers(&self, from: usize, rng: &mut StdRng) -> Vec<(usize, Sats)> {
        let mut others: Vec<usize> = (0..self.wallets.len()).filter(|to| *to != from).collect();
        others.shuffle(rng);
        match rng.gen_range(0..10) {
            0..7 => vec![(others[0], LEAF)],
            7..9 => vec![(others[0], Sats(2 * LEAF.0))],
            _ => vec![(others[0], LEAF), (others[1], LEAF)],
        }
    }

    /// Waits until the wallet knows what became of a payment. True if it was paid.
    async fn outcome(&self, from: usize, id: TransferId) -> bool {
        let wallet = &self.wallets[from];
        eventually(
            &format!("the outcome of {id} is known"),
            PATIENCE,
            || async move {
                match wallet.payment_state(id).await {
                    Ok(PaymentState::Paid) => Ok(true),
                    Ok(PaymentState::Returned | PaymentState::NotMade) => Ok(false),
                    Ok(PaymentState::Open) => Err("it is open".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            },
        )
        .await
    }

    /// Claims what waits. During an outage that may fail; it is tried again.
    async fn claim(&self, of: usize) {
        match self.wallets[of].claim_pending().await {
            Ok(report) => {
                for (_, why) in report.refused {
                    self.note(format!("claim: {}", kind(&why)));
                }
            }
            Err(error) => self.note_error("claim", &error),
        }
    }

    fn note(&self, what: String) {
        *self.met.lock().expect("no panic").entry(what).or_default() += 1;
    }

    fn note_error(&self, call: &str, error: &Error) {
        self.note(format!("{call}: {}", kind(&error.to_string())));
        if !error.is_temporary() {
            let mut unexplained = self.unexplained.lock().expect("no panic");
            unexplained.push(format!("{call}: {error}"));
        }
    }

    /// What happened so far.
    fn report(&self) -> String {
        let met = self.met.lock().expect("no panic");
        let lines: Vec<_> = met
            .iter()
            .map(|(what, times)| format!("  {times} × {what}"))
            .collect();
        format!(
            "{} payments done; met\n{}",
            self.turns.borrow().done,
            lines.join("\n")
        )
    }

    /// Kills operators until all payments are done.
    async fn kills(&self, net: &mut DevNet, outages: &Mutex<Outages>) {
        let mut rng = self.rng(0);
        loop {
            let mut turns = self.turns.subscribe();
            let next = turns.borrow().done + rng.gen_range(1..=CALM);
            let reached = turns.wait_for(|turns| turns.are_over() || turns.done >= next);
            if reached.await.expect("the sender lives").are_over() {
                return;
            }
            // Anywhere within a payment.
            rest(&mut rng, 60).await;
            let mut victims: Vec<u16> = (0..OPERATORS).collect();
            victims.shuffle(&mut rng);
            victims.truncate([1, 1, 1, 1, 2, 2, 3][rng.gen_range(0..7)]);
            for victim in &victims {
                net.kill(*victim).await;
                outages.lock().expect("no panic").kills += 1;
            }
            if victims.len() == usize::from(OPERATORS) {
                outages.lock().expect("no panic").total += 1;
            }
            rest(&mut rng, 1000).await;
            for victim in &victims {
                net.restart(*victim).expect("it starts");
            }
            if rng.gen_bool(0.25) {
                rest(&mut rng, 800).await;
                net.kill(victims[0]).await;
                {
                    let mut outages = outages.lock().expect("no panic");
                    outages.kills += 1;
                    outages.starting += 1;
                }
                net.restart(victims[0]).expect("it starts");
            }
            net.ready()
                .await
                .expect("operators come back by themselves");
        }
    }

    /// Waits until everything that was paid is claimed and every wallet has what it must have.
    async fn settle(&self) {
        let ledger = self.ledger.lock().expect("no panic").clone();
        assert_eq!(ledger.len() as u64, PAYMENTS);
        // What one has paid stays listed as its own until the receiver claims.
        join_all((0..self.wallets.len()).map(|number| {
            let expected = expected(number, &ledger);
            eventually("what was paid is claimed", PATIENCE, move || {
                self.has_settled(number, expected)
            })
        }))
        .await;
    }

    async fn has_settled(&self, number: usize, expected: u64) -> Result<(), String> {
        let wallet = &self.wallets[number];
        let text = |error: Error| format!("wallet {number}: {error}");
        let report = wallet.claim_pending().await.map_err(text)?;
        if let Some((id, why)) = report.refused.first() {
            return Err(format!("wallet {number}: transfer {id}: {why}"));
        }
        let report = wallet.sync().await.map_err(text)?;
        if !report.unusable.is_empty() || !report.dissent.is_empty() {
            return Err(format!("wallet {number}: {report:?}"));
        }
        let balance = wallet.balance().await.map_err(text)?;
        let spendable = balance.available.0 + balance.to_be_renewed.0;
        let moving = balance.incoming.0 + balance.outgoing.0 + balance.exiting.0;
        if spendable == expected && moving == 0 {
            Ok(())
        } else {
            Err(format!("wallet {number}: {balance:?}, not {expected}"))
        }
    }

    fn assert_every_leaf_has_one_owner(&self, deposited: &BTreeSet<LeafId>) {
        let mut owners = BTreeMap::<LeafId, usize>::new();
        for (number, wallet) in self.wallets.iter().enumerate() {
            for leaf in owned(wallet) {
                let other = owners.insert(leaf, number);
                assert_eq!(other, None, "leaf {leaf} has two owners, one is {number}");
            }
        }
        let found: BTreeSet<LeafId> = owners.into_keys().collect();
        assert_eq!(&found, deposited, "leaves were lost or appeared");
    }

    fn assert_no_protocol_error(&self) {
        let unexplained = self.unexplained.lock().expect("no panic");
        assert!(
            unexplained.is_empty(),
            "no outage explains these: {unexplained:#?}"
        );
    }
}

/// What a wallet must have after these payments, in sats.
fn expected(number: usize, ledger: &[Paid]) -> u64 {
    let mut expected = LEAVES as u64 * LEAF.0;
    let moves = ledger
        .iter()
        .flat_map(|paid| paid.to.iter().map(move |to| (paid.from, to)));
    let (mut got, mut gave) = (0, 0);
    for (from, (to, amount)) in moves {
        got += if *to == number { amount.0 } else { 0 };
        gave += if from == number { amount.0 } else { 0 };
    }
    expected += got;
    expected - gave
}

/// Up to `milliseconds`.
async fn rest(rng: &mut StdRng, milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(rng.gen_range(0..=milliseconds))).await;
}

/// An error text without ids and numbers.
fn kind(text: &str) -> String {
    let words = text
        .split_whitespace()
        .filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.take(16).collect::<Vec<_>>().join(" ")
}

fn owned(wallet: &Wallet) -> Vec<LeafId> {
    let leaves = wallet.leaves().into_iter();
    leaves
        .inspect(|leaf| assert_eq!(leaf.status, LeafStatus::Available, "leaf {}", leaf.id))
        .map(|leaf| leaf.id)
        .collect()
}

/// Every operator tells the same of every leaf and every payment.
async fn assert_operators_tell_the_same(net: &DevNet, storm: &Storm, signers: &[MemorySigner]) {
    let ledger = storm.ledger.lock().expect("no panic").clone();
    for (number, (wallet, signer)) in storm.wallets.iter().zip(signers).enumerate() {
        let leaves = owned(wallet);
        let mine =
            |paid: &&Paid| paid.from == number || paid.to.iter().any(|(to, _)| *to == number);
        let paid: BTreeSet<_> = ledger
            .iter()
            .filter(mine)
            .map(|paid| paid.id.to_string())
            .collect();
        let mut first = None;
        for operator in 0..OPERATORS {
            let mut caller = Caller::log_in(net, operator, signer).await;
            let nodes = caller.nodes(leaves.clone()).await.expect("nodes");
            assert_eq!(
                nodes.len(),
                leaves.len(),
                "operator {operator}, wallet {number}"
            );
            for node in nodes.values() {
                assert_eq!(
                    node.status, "AVAILABLE",
                    "operator {operator}, leaf {}",
                    node.id
                );
                assert_eq!(
                    node.owner_identity_public_key, caller.identity,
                    "leaf {}",
                    node.id
                );
            }
            let transfers = caller.transfers().await.expect("transfers");
            let completed: BTreeSet<_> = transfers
                .values()
                .filter(|transfer| transfer.status() == WireStatus::Completed)
                .map(|transfer| transfer.id.clone())
                .collect();
            assert_eq!(
                completed, paid,
                "operator {operator}, payments of wallet {number}"
            );
            let others: Vec<_> = transfers
                .values()
                .filter(|transfer| !completed.contains(&transfer.id))
                .map(|transfer| (&transfer.id, transfer.status()))
                .collect();
            assert!(
                others.iter().all(|(_, status)| matches!(
                    status,
                    WireStatus::Returned | WireStatus::Expired
                )),
                "operator {operator}, wallet {number}: {others:?}"
            );
            let told: BTreeMap<String, TreeNode> = nodes.into_iter().map(timeless).collect();
            match &first {
                None => first = Some(told),
                Some(first) => assert_eq!(&told, first, "operators 0 and {operator} differ"),
            }
        }
    }
}

/// A leaf without the times at which each operator heard of things.
fn timeless((id, mut node): (String, TreeNode)) -> (String, TreeNode) {
    node.updated_time = None;
    if let Some(keyshare) = &mut node.signing_keyshare {
        keyshare.updated_time = None;
    }
    (id, node)
}

async fn assert_no_flow_is_open(folder: &std::path::Path) {
    for index in 0..OPERATORS {
        let store = database::open(folder, index).await;
        let open: Vec<FlowRow> = store.rows(Scan::all(Index::FlowOpen)).await.expect("flows");
        let open: Vec<_> = open
            .iter()
            .map(|flow| {
                format!(
                    "{} of operator {}: {:?}",
                    flow.id, flow.coordinator.0, flow.state
                )
            })
            .collect();
        assert!(open.is_empty(), "operator {index}: {open:#?}");
    }
}
