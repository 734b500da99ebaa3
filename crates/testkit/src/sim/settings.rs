//! Settings of wallets.

use rand::Rng;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::request::{Request, SettingRequest};

use super::cluster::Cluster;
use super::run::now;

/// A wallet changes who may look.
pub(super) fn next(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Request {
    let mut owner = || &cluster.owners[rng.gen_range(0..cluster.owners.len())];
    let (of, master) = (owner(), owner().identity());
    let private = rng.gen_bool(0.7).then(|| rng.r#gen());
    let master = rng
        .gen_bool(0.5)
        .then(|| rng.gen_bool(0.7).then_some(master));
    Request::Setting(Box::new(SettingRequest {
        now: now(cluster),
        owner: of.identity(),
        private,
        master,
    }))
}
