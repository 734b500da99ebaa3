//! The whole exit, on a chain that is as strict as a node.

use std::sync::Arc;

use bitcoin::{Address, Transaction};
use tinderbox_chain::Rejection;
use tinderbox_protocol::{BlockHeight, LeafId, Network, Sats};

use super::path::RefundKey;
use super::{
    Bundle, ExitDriver, ExitEvent, ExitOptions, ExitPath, ExitReport, Rate, Stage, Wanted,
};
use crate::adopt::exit_path;
use crate::error::Error;
use crate::signer::{MemorySigner, WalletSigner};
use crate::storage::{Kind, MemoryStorage, Records, SqliteStorage, Storage};
use crate::testing::FakeChain;
use crate::verify::fixture::Scene;

/// Alice's wallet, its storage and the chain.
struct World {
    scene: Scene,
    chain: Arc<FakeChain>,
    records: Records,
}

impl World {
    /// One leaf straight below its deposit.
    fn new() -> Self {
        Self::with_storage(Arc::new(MemoryStorage::new()))
    }

    fn with_storage(storage: Arc<dyn Storage>) -> Self {
        let scene = Scene::new();
        let chain = Arc::new(FakeChain::new());
        chain.confirm_foreign(scene.deposit_tx().clone());
        let world = Self {
            scene,
            chain,
            records: Records::new(storage),
        };
        let leaf = world.scene.leaf();
        world.store(&exit_path(&leaf, &[&leaf], RefundKey::Leaf).unwrap());
        world
    }

    /// One leaf with a timelocked node above its refund.
    fn renewed() -> Self {
        let world = Self::new();
        let (root, leaf) = world.scene.renewed_leaf();
        world.store(&exit_path(&leaf, &[&root, &leaf], RefundKey::Leaf).unwrap());
        world
    }

    fn store(&self, path: &ExitPath) {
        self.records
            .put(Kind::ExitPath, &path.leaf.to_string(), path)
            .unwrap();
    }

    fn path(&self) -> ExitPath {
        self.records
            .get(Kind::ExitPath, &self.scene.leaf_id().to_string())
            .unwrap()
            .unwrap()
    }

    fn signer(&self) -> Arc<dyn WalletSigner> {
        Arc::new(MemorySigner::from_seed(&[1; 32], Network::Local, None).unwrap())
    }

    fn fund(&self, value: u64) {
        self.chain.give(self.signer().funding_script(), Sats(value));
    }

    fn destination(&self) -> Address {
        let signer = MemorySigner::from_seed(&[42; 32], Network::Local, None).unwrap();
        signer.funding_address(Network::Local)
    }

    fn options(&self) -> ExitOptions {
        ExitOptions {
            destination: self.destination(),
            leaves: None,
            fee_rate: Some(Rate(5)),
            uneconomic_too: false,
            sweep_funding: true,
        }
    }

    async fn start(&self) -> ExitDriver {
        self.start_with(self.options()).await.unwrap()
    }

    async fn start_with(&self, options: ExitOptions) -> Result<ExitDriver, Error> {
        ExitDriver::start(
            self.signer(),
            self.chain.clone(),
            self.records.clone(),
            Network::Local,
            options,
        )
        .await
    }

    fn resume(&self) -> ExitDriver {
        ExitDriver::resume(
            self.signer(),
            self.chain.clone(),
            self.records.clone(),
            Network::Local,
        )
        .unwrap()
    }

    /// Steps and mines until it is done; the reports.
    async fn carry_through(&self, driver: &mut ExitDriver) -> Vec<ExitReport> {
        let mut reports = Vec::new();
        for _ in 0..60 {
            let report = driver.step().await.unwrap();
            let (done, wanted) = (report.done, report.wanted.clone());
            reports.push(report);
            if done {
                return reports;
            }
            match wanted {
                Wanted::Block { at_least } => self.mine_to(at_least),
                other => panic!("it waits for {other:?}"),
            }
        }
        panic!("it is never done: {:?}", driver.state());
    }

    fn mine_to(&self, height: BlockHeight) {
        self.chain
            .mine(height.0.saturating_sub(self.chain.height()).max(1));
    }

    fn paid_out(&self) -> Sats {
        self.chain
            .confirmed_value(&self.destination().script_pubkey())
    }
}

fn events(reports: &[ExitReport]) -> impl Iterator<Item = &ExitEvent> {
    reports.iter().flat_map(|report| &report.events)
}

#[tokio::test]
async fn a_leaf_comes_out_to_the_last_sat() {
    let world = World::new();
    world.fund(50_000);
    let mut driver = world.start().await;
    let reports = world.carry_through(&mut driver).await;
    let fees = reports.last().unwrap().fees_paid;
    assert!(fees.0 > 0);
    assert_eq!(world.paid_out(), Sats(150_000 - fees.0));
    assert_eq!(
        world.chain.packages(),
        2,
        "one for the node, one for the refund"
    );
    assert_eq!(
        world
            .chain
            .confirmed_value(&world.signer().funding_script()),
        Sats(0)
    );
}

#[tokio::test]
async fn the_refund_waits_for_its_timelock_and_not_a_block_longer() {
    let world = World::new();
    world.fund(50_000);
    let mut driver = world.start().await;
    driver.step().await.unwrap();
    world.chain.mine(1);
    let confirmed_at = world.chain.height();
    let report = driver.step().await.unwrap();
    let until = BlockHeight(confirmed_at + 2000 - 1);
    assert_eq!(report.wanted, Wanted::Block { at_least: until });
    world.chain.mine(1998);
    assert!(driver.step().await.unwrap().events.is_empty());
    assert_eq!(world.chain.mempool().len(), 0);
    world.chain.mine(1);
    assert_eq!(world.chain.height(), until.0);
    let report = driver.step().await.unwrap();
    assert!(
        matches!(report.events[..], [ExitEvent::Sent { step: 1, .. }]),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_renewed_leaf_waits_for_both_timelocks() {
    let world = World::renewed();
    world.fund(50_000);
    let start = world.chain.height();
    let mut driver = world.start().await;
    let reports = world.carry_through(&mut driver).await;
    assert_eq!(world.chain.packages(), 3);
    assert!(world.chain.height() >= start + 4000);
    assert_eq!(
        world.paid_out(),
        Sats(150_000 - reports.last().unwrap().fees_paid.0)
    );
}

#[tokio::test]
async fn without_funding_it_says_where_to_send_it_and_goes_on_when_it_is_there() {
    let world = World::new();
    let mut driver = world.start().await;
    let report = driver.step().await.unwrap();
    let Wanted::Funding { address, at_least } = &report.wanted else {
        panic!("{report:?}")
    };
    assert_eq!(
        *address,
        world.signer().funding_address(Network::Local).to_string()
    );
    // Exactly what it asks for is enough for this package.
    world.fund(at_least.0);
    let report = driver.step().await.unwrap();
    assert!(
        matches!(report.events[..], [ExitEvent::Sent { step: 0, .. }]),
        "{report:?}"
    );
}

/// Case 57, on the same device: the process dies after any step.
#[tokio::test]
async fn case_57_it_goes_on_after_a_restart_at_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wallet.db");
    let mut world = World::with_storage(Arc::new(SqliteStorage::open(&file).unwrap()));
    world.fund(50_000);
    drop(world.start().await);
    for _ in 0..60 {
        world.records = Records::new(Arc::new(SqliteStorage::open(&file).unwrap()));
        let mut driver = world.resume();
        let report = driver.step().await.unwrap();
        if report.done {
            assert_eq!(world.paid_out(), Sats(150_000 - report.fees_paid.0));
            return;
        }
        let Wanted::Block { at_least } = report.wanted else {
            panic!("{report:?}")
        };
        world.mine_to(at_least);
    }
    panic!("it is never done");
}

/// Case 57, on another device: only the words and an exported bundle are left, at every step.
#[tokio::test]
async fn case_57_it_goes_on_on_a_new_device_from_words_and_bundle_at_every_step() {
    let mut world = World::new();
    world.fund(50_000);
    drop(world.start().await);
    let identity = world.signer().identity();
    for _ in 0..60 {
        let text = Bundle::export(&world.records, Network::Local, identity)
            .unwrap()
            .to_json()
            .unwrap();
        world.records = Records::new(Arc::new(MemoryStorage::new()));
        Bundle::from_json(&text)
            .unwrap()
            .import(&world.records, Network::Local, identity)
            .unwrap();
        let report = world.resume().step().await.unwrap();
        if report.done {
            assert_eq!(world.paid_out(), Sats(150_000 - report.fees_paid.0));
            return;
        }
        let Wanted::Block { at_least } = report.wanted else {
            panic!("{report:?}")
        };
        world.mine_to(at_least);
    }
    panic!("it is never done");
}

/// Case 57: the other device knows the paths only, not the exit under way. It finds on chain how far it is.
#[tokio::test]
async fn case_57_a_device_that_knows_only_the_paths_finds_out_how_far_it_is() {
    let world = World::new();
    world.fund(50_000);
    let mut driver = world.start().await;
    driver.step().await.unwrap();
    world.chain.mine(2000);
    drop(driver);
    world.records.delete(Kind::Exit, "current").unwrap();
    let mut driver = world.start().await;
    let reports = world.carry_through(&mut driver).await;
    assert_eq!(world.chain.packages(), 2);
    assert!(events(&reports).any(|event| matches!(event, ExitEvent::Confirmed { step: 0, .. })));
}

#[tokio::test]
async fn case_58_an_uneconomic_leaf_is_skipped_and_reported() {
    let world = World::new();
    world.fund(50_000);
    let mut options = world.options();
    options.fee_rate = Some(Rate(500));
    let mut driver = world.start_with(options.clone()).await.unwrap();
    let report = driver.step().await.unwrap();
    assert!(report.done);
    assert_eq!(world.chain.packages(), 0);
    assert!(report.leaves[0].stage.contains("skipped"), "{report:?}");
    assert!(
        matches!(driver.state().leaves[0].stage, Stage::Skipped { cost } if cost > Sats(100_000))
    );
    // It stays in the wallet, and goes later at lower fees.
    options.fee_rate = Some(Rate(5));
    let mut driver = world.start_with(options).await.unwrap();
    world.carry_through(&mut driver).await;
}

#[tokio::test]
async fn a_second_exit_beside_a_running_one_is_refused() {
    let world = World::new();
    let _first = world.start().await;
    assert!(matches!(
        world.start_with(world.options()).await,
        Err(Error::ExitRunning)
    ));
}

#[tokio::test]
async fn an_exit_of_a_leaf_that_is_not_ours_is_refused() {
    let world = World::new();
    let mut options = world.options();
    options.leaves = Some([LeafId::from_bytes16([5; 16])].into());
    assert!(matches!(
        world.start_with(options).await,
        Err(Error::UnknownLeaf { .. })
    ));
}

#[tokio::test]
async fn an_exit_without_any_leaf_is_refused() {
    let world = World::new();
    world
        .records
        .delete(Kind::ExitPath, &world.scene.leaf_id().to_string())
        .unwrap();
    assert!(matches!(
        world.start_with(world.options()).await,
        Err(Error::NothingToExit)
    ));
}

#[tokio::test]
async fn a_package_that_the_mempool_forgot_is_sent_again() {
    let world = World::new();
    world.fund(50_000);
    let mut driver = world.start().await;
    driver.step().await.unwrap();
    let first = world.chain.mempool();
    world.chain.forget_mempool();
    driver.step().await.unwrap();
    // The same coins, so never two packages that pay twice.
    let ids = |txs: &[Transaction]| {
        txs.iter()
            .map(Transaction::compute_txid)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&world.chain.mempool()), ids(&first));
    world.carry_through(&mut driver).await;
}

#[tokio::test]
async fn case_56_a_package_that_does_not_confirm_pays_more() {
    let world = World::new();
    world.fund(50_000);
    let mut driver = world.start().await;
    driver.step().await.unwrap();
    let first = world.chain.mempool();
    world.chain.mine_empty(3);
    let report = driver.step().await.unwrap();
    assert!(
        matches!(report.events[..], [ExitEvent::Bumped { .. }]),
        "{report:?}"
    );
    let second = world.chain.mempool();
    assert_eq!(second.len(), 2);
    assert_eq!(first[0], second[0], "the same node transaction");
    assert!(
        second[1].output[0].value < first[1].output[0].value,
        "a child that pays more"
    );
    let reports = world.carry_through(&mut driver).await;
    assert_eq!(
        world.paid_out(),
        Sats(150_000 - reports.last().unwrap().fees_paid.0)
    );
}

#[tokio::test]
async fn case_56_a_refused_package_is_tried_again_and_nothing_is_lost() {
    for rejection in [
        Rejection::FeeTooLow,
        Rejection::TrucLimit,
        Rejection::TimelockNotReached,
        Rejection::Conflict,
        Rejection::MissingInputs,
        Rejection::Other,
    ] {
        let world = World::new();
        world.fund(50_000);
        let mut driver = world.start().await;
        world.chain.refuse_next(rejection);
        let report = driver.step().await.unwrap();
        assert!(
            matches!(report.events[..], [ExitEvent::Refused { .. }]),
            "{rejection}: {report:?}"
        );
        world.chain.mine(1);
        let reports = world.carry_through(&mut driver).await;
        assert_eq!(
            world.paid_out(),
            Sats(150_000 - reports.last().unwrap().fees_paid.0),
            "{rejection}"
        );
    }
}

#[tokio::test]
async fn case_56_funding_change_is_used_again_only_when_it_is_confirmed() {
    let world = World::new();
    let other = Scene::with_seed(5);
    // A second leaf of another tree, of the same wallet.
    world.chain.confirm_foreign(other.deposit_tx().clone());
    let leaf = other.leaf();
    let mut path = exit_path(&leaf, &[&leaf], RefundKey::Leaf).unwrap();
    path.leaf = LeafId::from_bytes16([3; 16]);
    world.store(&path);
    world.fund(50_000);
    let mut driver = world.start().await;
    let report = driver.step().await.unwrap();
    let sent = |report: &ExitReport| {
        report
            .events
            .iter()
            .filter(|e| matches!(e, ExitEvent::Sent { .. }))
            .count()
    };
    assert_eq!(
        sent(&report),
        1,
        "one coin pays for one package at a time: {report:?}"
    );
    assert!(
        matches!(report.wanted, Wanted::Block { .. }),
        "the change will do: {report:?}"
    );
    world.chain.mine(1);
    assert_eq!(sent(&driver.step().await.unwrap()), 1);
}

#[tokio::test]
async fn case_55_a_reorganisation_sends_it_back_and_it_recovers() {
    for depth in [1, 2, 6] {
        let world = World::new();
        world.fund(50_000);
        world.chain.mine(10);
        let mut driver = world.start().await;
        driver.step().await.unwrap();
        world.chain.mine(depth as u32);
        driver.step().await.unwrap();
        world.chain.reorganise(depth);
        world.chain.mine(1);
        let report = driver.step().await.unwrap();
        assert!(
            report
                .events
                .iter()
                .any(|e| matches!(e, ExitEvent::Reorganised { step: 0, .. })),
            "{depth}: {report:?}"
        );
        world.chain.mine(1);
        let reports = world.carry_through(&mut driver).await;
        assert_eq!(
            world.paid_out(),
            Sats(150_000 - reports.last().unwrap().fees_paid.0)
        );
    }
}

#[tokio::test]
async fn case_55_a_refund_that_a_reorganisation_takes_back_is_sent_again() {
    let world = World::new();
    world.fund(50_000);
    let mut driver = world.start().await;
    for _ in 0..3 {
        let report = driver.step().await.unwrap();
        let Wanted::Block { at_least } = report.wanted else {
            panic!("{report:?}")
        };
        world.mine_to(at_least);
    }
    // The refund is in the last block, but the exit has not seen it swept.
    let report = driver.step().await.unwrap();
    assert!(
        report
            .events
            .iter()
            .any(|e| matches!(e, ExitEvent::Refunded { .. })),
        "{report:?}"
    );
    world.chain.reorganise(1);
    world.chain.mine(1);
    let reports = world.carry_through(&mut driver).await;
    assert!(events(&reports).any(|e| matches!(e, ExitEvent::Refunded { .. })));
    assert_eq!(
        world.paid_out(),
        Sats(150_000 - reports.last().unwrap().fees_paid.0)
    );
}

#[tokio::test]
async fn a_refund_that_the_watchtower_published_is_swept_as_well() {
    let world = World::new();
    world.fund(50_000);
    let mut driver = world.start().await;
    driver.step().await.unwrap();
    world.chain.mine(1);
    // Its owner sleeps until the watchtower's turn.
    world.chain.mine(2050);
    let refund = world.path().direct_from_cpfp_refund.unwrap().0;
    world.chain.watchtower(&refund).unwrap();
    world.chain.mine(1);
    let reports = world.carry_through(&mut driver).await;
    // The fixed fee of the watchtower's refund, and ours.
    let ours = reports.last().unwrap().fees_paid.0;
    assert_eq!(world.paid_out(), Sats(150_000 - 955 - ours));
    assert_eq!(world.chain.packages(), 1, "only the node needed a package");
}

#[tokio::test]
async fn a_direct_node_that_the_watchtower_published_leads_to_its_own_refund() {
    let world = World::renewed();
    world.fund(50_000);
    let mut driver = world.start().await;
    driver.step().await.unwrap();
    world.chain.mine(1);
    world.chain.mine(2050);
    let direct = world.path().nodes[1].direct.clone().unwrap().0;
    world.chain.watchtower(&direct).unwrap();
    world.chain.mine(1);
    let reports = world.carry_through(&mut driver).await;
    let ours = reports.last().unwrap().fees_paid.0;
    assert_eq!(world.paid_out(), Sats(150_000 - 2 * 955 - ours));
}

#[tokio::test]
async fn a_leaf_that_somebody_else_spent_is_given_up_and_named() {
    let world = World::new();
    world.fund(50_000);
    let mut driver = world.start().await;
    driver.step().await.unwrap();
    world.chain.mine(1);
    // A transaction that this wallet has never seen spends the node's output.
    let mut foreign = world.scene.payment_refund();
    foreign.output.pop();
    foreign.output[0].value = bitcoin::Amount::from_sat(90_000);
    world.chain.confirm_foreign(foreign);
    let report = driver.step().await.unwrap();
    assert!(
        matches!(
            report.events[..],
            [ExitEvent::Confirmed { .. }, ExitEvent::Failed { .. }]
        ),
        "{report:?}"
    );
    assert!(
        report.leaves[0].stage.contains("does not know"),
        "{report:?}"
    );
    assert!(report.done);
}

#[tokio::test]
async fn a_chain_source_that_is_down_is_an_error_and_changes_nothing() {
    let world = World::new();
    world.fund(50_000);
    let mut driver = world.start().await;
    world.chain.set_down(true);
    assert!(driver.step().await.unwrap_err().is_temporary());
    world.chain.set_down(false);
    world.carry_through(&mut driver).await;
}

#[tokio::test]
async fn without_a_fixed_rate_the_nodes_estimate_is_paid() {
    let world = World::new();
    world.fund(50_000);
    let mut options = world.options();
    options.fee_rate = None;
    world.chain.set_rate(3);
    let mut driver = world.start_with(options).await.unwrap();
    let report = driver.step().await.unwrap();
    // Node transaction 124 vB, child with one coin 151 vB.
    let [ExitEvent::Sent { fee, .. }] = report.events[..] else {
        panic!("{report:?}")
    };
    assert_eq!(fee, Sats((124 + 151) * 3));
}

#[tokio::test]
async fn funding_can_be_kept_out_of_the_sweep() {
    let world = World::new();
    world.fund(50_000);
    let mut options = world.options();
    options.sweep_funding = false;
    let mut driver = world.start_with(options).await.unwrap();
    let reports = world.carry_through(&mut driver).await;
    let left = world
        .chain
        .confirmed_value(&world.signer().funding_script());
    assert_eq!(
        world.paid_out().0 + left.0,
        150_000 - reports.last().unwrap().fees_paid.0
    );
    assert!(left > Sats(40_000));
}

#[tokio::test]
async fn a_bundle_of_another_wallet_or_network_is_refused() {
    let world = World::new();
    let identity = world.signer().identity();
    let bundle = Bundle::export(&world.records, Network::Local, identity).unwrap();
    let stranger = world.scene.stranger();
    assert!(
        bundle
            .import(&world.records, Network::Local, stranger)
            .is_err()
    );
    assert!(
        bundle
            .import(&world.records, Network::Mainnet, identity)
            .is_err()
    );
    assert!(Bundle::from_json("{}").is_err());
    assert!(Bundle::from_json("no json").is_err());
    let newer = bundle
        .to_json()
        .unwrap()
        .replacen("\"version\": 1", "\"version\": 99", 1);
    assert!(
        Bundle::from_json(&newer)
            .unwrap_err()
            .to_string()
            .contains("newer program")
    );
}

#[tokio::test]
async fn an_imported_bundle_never_replaces_a_newer_path() {
    let world = World::new();
    let identity = world.signer().identity();
    let old = Bundle::export(&world.records, Network::Local, identity).unwrap();
    let mut newer = world.path();
    newer.refund.input[0].sequence = bitcoin::Sequence(1900);
    world.store(&newer);
    assert_eq!(
        old.import(&world.records, Network::Local, identity)
            .unwrap(),
        0
    );
    assert_eq!(world.path(), newer);
}

#[tokio::test]
async fn the_bundle_holds_no_secret() {
    let world = World::new();
    let keys = tinderbox_protocol::WalletKeys::from_seed(&[1; 32], Network::Local, None).unwrap();
    let text = Bundle::export(&world.records, Network::Local, world.signer().identity())
        .unwrap()
        .to_json()
        .unwrap();
    for secret in [
        keys.identity().to_be_bytes(),
        keys.leaf(&world.scene.leaf_id()).unwrap().to_be_bytes(),
    ] {
        assert!(!text.contains(&hex::encode(*secret)));
    }
}

#[tokio::test]
async fn a_finished_exit_stays_finished_and_says_nothing_more() {
    let world = World::new();
    world.fund(50_000);
    let mut driver = world.start().await;
    world.carry_through(&mut driver).await;
    world.chain.mine(1);
    let report = world.resume().step().await.unwrap();
    assert!(report.done && report.events.is_empty(), "{report:?}");
    // The leaf is gone for good: no second exit of it.
    assert!(matches!(
        world.start_with(world.options()).await,
        Err(Error::NothingToExit)
    ));
}

#[tokio::test]
async fn case_55_a_sweep_that_a_reorganisation_takes_back_is_made_again() {
    let world = World::new();
    world.fund(50_000);
    let mut driver = world.start().await;
    world.carry_through(&mut driver).await;
    world.chain.reorganise(1);
    assert_eq!(world.paid_out(), Sats(0));
    world.chain.mine(1);
    let reports = world.carry_through(&mut driver).await;
    assert!(events(&reports).any(|e| matches!(e, ExitEvent::SweepConfirmed { .. })));
    assert_eq!(
        world.paid_out(),
        Sats(150_000 - reports.last().unwrap().fees_paid.0)
    );
}

#[tokio::test]
async fn case_57_a_device_that_comes_late_finds_the_money_already_swept() {
    let mut world = World::new();
    world.fund(50_000);
    let identity = world.signer().identity();
    let before = Bundle::export(&world.records, Network::Local, identity).unwrap();
    let mut driver = world.start().await;
    world.carry_through(&mut driver).await;
    world.records = Records::new(Arc::new(MemoryStorage::new()));
    before
        .import(&world.records, Network::Local, identity)
        .unwrap();
    let mut driver = world.start().await;
    let report = driver.step().await.unwrap();
    assert!(report.done, "{report:?}");
    assert!(
        report.leaves[0].stage.contains("spent before"),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_sweep_that_does_not_confirm_pays_more_and_either_version_ends_the_exit() {
    for take_the_first in [false, true] {
        let world = World::new();
        world.fund(50_000);
        let mut driver = world.start().await;
        let first = loop {
            let report = driver.step().await.unwrap();
            if report.sweep.is_some() {
                break world.chain.mempool().remove(0);
            }
            let Wanted::Block { at_least } = report.wanted else {
                panic!("{report:?}")
            };
            world.mine_to(at_least);
        };
        world.chain.mine_empty(3);
        driver.step().await.unwrap();
        let second = world.chain.mempool().remove(0);
        assert!(second.output[0].value < first.output[0].value);
        if take_the_first {
            world.chain.confirm_foreign(first);
        } else {
            world.chain.mine(1);
        }
        let report = driver.step().await.unwrap();
        assert!(report.done, "{report:?}");
        assert_eq!(world.paid_out(), Sats(150_000 - report.fees_paid.0));
    }
}
