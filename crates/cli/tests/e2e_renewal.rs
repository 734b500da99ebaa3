//! One leaf that never rests: wallets renew it by themselves whenever its timelocks run down.

mod common;

use tinderbox_protocol::Sats;

use common::network::{self, Folder};
use common::{PATIENCE, database, eventually};

const LEAF: Sats = Sats(50_000);
/// A leaf makes at most 19 moves between two renewals.
const MOVES: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_moves_for_ever_because_its_owners_renew_it() {
    let folder = Folder::new();
    let net = network::start(network::plan(&folder, database::any(), 30)).await;
    let wallets = [0, 1].map(|coordinator| network::new_wallet(&net, coordinator).0);
    network::deposit(&net, &[&wallets[0]], &[LEAF]).await;
    let mut depths = Vec::new();
    for turn in 0..MOVES {
        let (from, to) = (&wallets[turn % 2], &wallets[(turn + 1) % 2]);
        let address = to.address();
        from.send(&address, LEAF)
            .await
            .unwrap_or_else(|error| panic!("move {turn}: {error}"));
        eventually("the payment is claimed", PATIENCE, || async {
            let report = to.claim_pending().await.map_err(|e| e.to_string())?;
            let leaves = to.leaves();
            (leaves.len() == 1)
                .then_some(())
                .ok_or_else(|| format!("{report:?}"))
        })
        .await;
        // Every renewal is one more thing on the way out, and must be in the exit.
        let paths = to.exit_paths().expect("an exit");
        assert_eq!(paths.len(), 1, "move {turn}");
        depths.push(paths[0].nodes.len());
    }
    let deepest = depths.iter().max().copied().unwrap_or_default();
    assert!(deepest >= 2, "never renewed: {depths:?}");
    let holder = &wallets[MOVES % 2];
    assert_eq!(holder.balance().await.expect("a balance").available, LEAF);
    net.stop().await.expect("it stops");
}
