//! The signer, and the other operators as seen with its identity.

use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use bitcoin::secp256k1::ecdsa::Signature;
use futures::future::join_all;
use tinderbox_rpc::client;
use tinderbox_rpc::peer::{self, PeerCertificate, UncertifiedKey};
use tinderbox_signer::{Identity, Signer as _, SocketSigner};

use super::{Level, Report};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, OperatorInfo, SignerConfig};
use crate::peer::Hello;

/// How long an operator may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Milliseconds that clocks may differ; then wallets' expiry times mean different things.
const SKEW_MS: u64 = 2_000;
const MUCH_SKEW_MS: u64 = 30_000;

pub(super) async fn examine(config: &Config, identity: Option<Identity>, report: &mut Report) {
    let Some(own) = certificate(config, identity, report).await else {
        report.warning(
            "operators",
            "not asked: that takes this operator's identity key",
            "correct what is said about identity or signer first",
        );
        return;
    };
    let others = (0u16..)
        .zip(&config.operators)
        .filter(|(index, _)| *index != config.me.0);
    let own = &own;
    let asked = join_all(others.map(|(index, operator)| async move {
        let about = format!("operator {index}");
        let found = ask(config, operator, own).await;
        (about, index, found)
    }))
    .await;
    for (about, index, found) in asked {
        match found {
            Ok(hello) => judge(config, &about, index, &hello, report),
            Err(why) => report.bad(
                &about,
                why,
                "check operators[].peer, firewalls, and that it runs under the identity in the configuration; nothing that moves money starts without it",
            ),
        }
    }
}

async fn certificate(
    config: &Config,
    identity: Option<Identity>,
    report: &mut Report,
) -> Option<PeerCertificate> {
    let key = UncertifiedKey::generate().ok()?;
    let (public, signature): (PublicKey, Vec<u8>) = match (&config.signer, identity) {
        (SignerConfig::Socket(path), _) => {
            let signer = match SocketSigner::connect(path).await {
                Ok(signer) => signer,
                Err(error) => {
                    report.bad(
                        "signer",
                        error.to_string(),
                        "start it with tinderbox signer run, under the same user",
                    );
                    return None;
                }
            };
            if config.own().map(|own| own.identity) != Some(signer.identity()) {
                report.bad(
                    "signer",
                    format!("it is the signer of {}", signer.identity()),
                    "correct signer.socket, index, or the list of operators",
                );
                return None;
            }
            report.good("signer", format!("answers at {}", path.display()));
            let signed = signer.sign(vec![key.digest()]).await.ok()?.pop()?;
            (signer.identity(), signed)
        }
        (SignerConfig::Embedded { .. }, Some(identity)) => {
            (identity.public(), identity.sign(&key.digest()))
        }
        (SignerConfig::Embedded { .. }, None) => return None,
    };
    let signature = Signature::from_der(&signature).ok()?;
    key.certify(&public, &signature).ok()
}

async fn ask(
    config: &Config,
    operator: &OperatorInfo,
    own: &PeerCertificate,
) -> Result<Hello, String> {
    let url = format!("https://{}", operator.peer);
    let channel =
        peer::peer_client(&url, own, &operator.identity).map_err(|error| error.to_string())?;
    let question = Hello::of(config, SystemClock.now());
    let envelope = question.seal().map_err(|error| error.to_string())?;
    let mut client = client::peer(channel);
    match tokio::time::timeout(PATIENCE, client.hello(envelope)).await {
        Ok(Ok(answer)) => Hello::open(answer.get_ref()).map_err(|error| error.to_string()),
        Ok(Err(status)) => Err(format!(
            "at {}: {:?}: {}",
            operator.peer,
            status.code(),
            status.message()
        )),
        Err(_) => Err(format!(
            "at {}: no answer within {} s",
            operator.peer,
            PATIENCE.as_secs()
        )),
    }
}

fn judge(config: &Config, about: &str, index: u16, hello: &Hello, report: &mut Report) {
    let own = Hello::of(config, SystemClock.now());
    let before = report.findings.len();
    if hello.index != index {
        report.bad(
            about,
            format!("it takes itself for operator {}", hello.index),
            "make the lists of operators equal, in the same order, at all operators",
        );
    }
    if (
        hello.network.as_str(),
        hello.threshold,
        hello.confirmations,
        hello.operators,
    ) != (
        own.network.as_str(),
        own.threshold,
        own.confirmations,
        own.operators,
    ) {
        report.bad(
            about,
            "its network, threshold, deposit_confirmations or list of operators differs",
            "make them equal at all operators",
        );
    }
    if hello.release != own.release {
        report.warning(
            about,
            format!(
                "it runs release {}, this program is {}",
                hello.release, own.release
            ),
            "finish the upgrade: all operators run one release",
        );
    }
    let skew = hello.now.0.abs_diff(own.now.0);
    let advice = "run a time service (NTP) on both machines";
    if skew > MUCH_SKEW_MS {
        report.bad(about, format!("clocks differ by {} s", skew / 1000), advice);
    } else if skew > SKEW_MS {
        report.warning(about, format!("clocks differ by {skew} ms"), advice);
    }
    let fine = report
        .findings
        .iter()
        .skip(before)
        .all(|one| one.level == Level::Good);
    if fine {
        report.good(about, format!("answers, release {}", hello.release));
    }
}
