//! Where secrets must not be: in files after they were destroyed, and in logs ever.

mod common;

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use base64::Engine as _;
use tinderbox_devnet::{DatabaseChoice, DevNet};
use tinderbox_flows::rows::{KeyshareRow, NodeRow};
use tinderbox_protocol::{LeafId, Sats};
use tinderbox_store::Reader as _;
use tinderbox_wallet::{MemorySigner, Wallet};

use common::network::{self, Folder};
use common::raw::Caller;
use common::{PATIENCE, database, eventually, program};

const OPERATORS: u16 = 3;
const LEAF: Sats = Sats(20_000);

/// Layout of a vault's file: a header, then slots, each with its secret at one place.
const VAULT_HEADER: usize = 4096;
const SLOT: usize = 128;
const SECRET: usize = 72;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_25_old_shares_are_nowhere_after_a_commit_on_sqlite() {
    if let Some(database) = database::sqlite() {
        old_shares_are_nowhere(database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_25_old_shares_are_nowhere_after_a_commit_on_postgres() {
    if let Some(database) = database::postgres() {
        old_shares_are_nowhere(database).await;
    }
}

/// A share as somebody sees it who has an operator's database and its vault at one moment.
struct Stolen {
    share: Vec<u8>,
    sealing_key: Vec<u8>,
}

fn slot(vault: &Path, number: usize) -> Vec<u8> {
    let file = std::fs::read(vault).expect("the vault");
    let begin = VAULT_HEADER + SLOT * number;
    file[begin..begin + SLOT].to_vec()
}

/// Opens the share of a leaf with what is on the disk of an operator that does not run.
async fn steal(folder: &Path, index: u16, leaf: &LeafId) -> Stolen {
    let store = database::open(folder, index).await;
    let node: NodeRow = store
        .row(NodeRow::id_of(leaf))
        .await
        .expect("readable")
        .expect("the leaf");
    let keyshare: KeyshareRow = store
        .row(node.keyshare.0)
        .await
        .expect("readable")
        .expect("its key share");
    let sealed = keyshare.sealed.0;
    let place = u32::from_be_bytes(sealed[1..5].try_into().expect("four bytes"));
    let vault = folder.join(format!("operator-{index}")).join("vault");
    let slot = slot(&vault, usize::try_from(place).expect("a slot"));
    let sealing_key = slot[SECRET..SECRET + 32].to_vec();
    let aad = [
        b"tinderbox/signer/share/1",
        &keyshare.id.0[..],
        &sealed[1..13],
    ]
    .concat();
    let payload = Payload {
        msg: &sealed[13..],
        aad: &aad,
    };
    let share = aes_gcm::Aes256Gcm::new_from_slice(&sealing_key)
        .expect("32 bytes")
        .decrypt(&aes_gcm::Nonce::default(), payload)
        .expect("a thief of both opens it");
    Stolen { share, sealing_key }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Bytes by which secrets are looked up.
const PREFIX: usize = 8;

/// Which of these secrets are in some bytes.
fn found_in<'a>(bytes: &[u8], secrets: &[(&'a str, Vec<u8>)]) -> Vec<&'a str> {
    let spot = |prefix: &[u8]| {
        let number = prefix.iter().fold(0usize, |sum, byte| {
            sum.wrapping_mul(31) ^ usize::from(*byte)
        });
        number % (1 << 20)
    };
    let mut is_begin = vec![false; 1 << 20];
    let mut begins: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (place, (_, secret)) in secrets.iter().enumerate() {
        let prefix = &secret[..PREFIX];
        is_begin[spot(prefix)] = true;
        begins.entry(prefix).or_default().push(place);
    }
    let mut found = Vec::new();
    for (at, window) in bytes.windows(PREFIX).enumerate() {
        if !is_begin[spot(window)] {
            continue;
        }
        for place in begins.get(window).into_iter().flatten() {
            if bytes[at..].starts_with(&secrets[*place].1) {
                found.push(secrets[*place].0);
            }
        }
    }
    found
}

#[test]
fn a_secret_is_found_wherever_it_is() {
    let secrets = vec![("one", vec![7; 32]), ("other", (0..32).collect())];
    let mut bytes = vec![9; 100];
    assert!(found_in(&bytes, &secrets).is_empty());
    bytes.extend(0..32);
    assert_eq!(found_in(&bytes, &secrets), ["other"]);
    bytes.extend([7; 32]);
    assert_eq!(found_in(&bytes, &secrets), ["other", "one"]);
}

/// Folders in which an operator's rows may be: its own, and the server's if we may read it.
async fn folders_of_rows(database: &DatabaseChoice, folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    if let DatabaseChoice::Postgres(url) = database {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .expect("the test server answers");
        let driver = tokio::spawn(connection);
        // What is in memory only cannot be found on a disk.
        client
            .batch_execute("CHECKPOINT")
            .await
            .expect("a checkpoint");
        let row = client.query_one("SHOW data_directory", &[]).await;
        folders.push(PathBuf::from(row.expect("a folder").get::<_, String>(0)));
        drop(client);
        let _ = driver.await;
    }
    folders
}

async fn old_shares_are_nowhere(choice: DatabaseChoice) {
    let begun = SystemTime::now();
    let folder = Folder::new();
    let mut net = network::start(network::plan(&folder, choice.clone(), 20)).await;
    let place = net.plan().folder.clone();
    let (alice, _) = network::new_wallet(&net, 0);
    let (bob, _) = network::new_wallet(&net, 1);
    network::deposit(&net, &[&alice], &[LEAF]).await;
    let leaf = alice.leaves().first().expect("a leaf").id;

    for index in 0..OPERATORS {
        net.kill(index).await;
    }
    let mut old = Vec::new();
    for index in 0..OPERATORS {
        old.push(steal(&place, index, &leaf).await);
    }
    let is_recent = |path: &Path| {
        let changed = path.metadata().and_then(|about| about.modified());
        changed.is_ok_and(|changed| changed >= begun)
    };
    let search = async |secrets: &[(&'static str, Vec<u8>)]| {
        let mut hits = Vec::new();
        let mut searched = 0;
        for folder in folders_of_rows(&choice, &place).await {
            let mut files = Vec::new();
            files_below(&folder, &mut files);
            for path in files.into_iter().filter(|path| is_recent(path)) {
                let Ok(bytes) = std::fs::read(&path) else {
                    continue;
                };
                searched += bytes.len();
                for what in found_in(&bytes, secrets) {
                    hits.push(format!("{what} in {}", path.display()));
                }
            }
        }
        assert!(searched > 100_000, "only {searched} bytes were searched");
        hits
    };
    let shares: Vec<_> = old
        .iter()
        .map(|stolen| ("a share", stolen.share.clone()))
        .collect();
    let keys: Vec<_> = old
        .iter()
        .map(|stolen| ("a sealing key", stolen.sealing_key.clone()))
        .collect();
    // A share is in no file even while it counts; its sealing key is in the vault.
    assert_eq!(search(&shares).await, Vec::<String>::new());
    assert_eq!(search(&keys).await.len(), usize::from(OPERATORS));

    for index in 0..OPERATORS {
        net.restart(index).expect("it starts");
    }
    net.ready().await.expect("operators come back");
    pay_and_claim(&alice, &bob).await;
    network::flows_have_ended(&net).await;
    for index in 0..OPERATORS {
        net.kill(index).await;
    }
    for index in 0..OPERATORS {
        let new = steal(&place, index, &leaf).await;
        assert_ne!(new.share, old[usize::from(index)].share);
    }
    // Now neither is anywhere: rows, logs of databases and copies hold noise.
    assert_eq!(search(&shares).await, Vec::<String>::new());
    assert_eq!(search(&keys).await, Vec::<String>::new());
    net.stop().await.expect("it stops");
    database::remove(&place, OPERATORS).await;
}

async fn pay_and_claim(from: &Wallet, to: &Wallet) {
    from.send(&to.address(), LEAF).await.expect("a payment");
    eventually("the payment is claimed", PATIENCE, || async {
        to.claim_pending()
            .await
            .map_err(|error| error.to_string())?;
        let available = to
            .balance()
            .await
            .map_err(|error| error.to_string())?
            .available;
        (available >= LEAF)
            .then_some(())
            .ok_or_else(|| available.to_string())
    })
    .await;
}

/// Every secret that a vault's file holds now.
fn secrets_of(vault: &Path) -> Vec<Vec<u8>> {
    let file = std::fs::read(vault).expect("the vault");
    file[VAULT_HEADER..]
        .chunks_exact(SLOT)
        .filter(|slot| matches!(slot[0], 1..=3))
        .map(|slot| slot[SECRET..SECRET + 32].to_vec())
        .collect()
}

/// The ways in which a program may have printed some bytes.
fn spellings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let standard = base64::engine::general_purpose::STANDARD_NO_PAD;
    let for_urls = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let list = |bytes: &[u8]| {
        let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
        numbers.join(", ").into_bytes()
    };
    vec![
        bytes.to_vec(),
        hex::encode(bytes).into_bytes(),
        hex::encode_upper(bytes).into_bytes(),
        // The last character of an encoding depends on what follows.
        standard.encode(bytes).into_bytes()[..40].to_vec(),
        for_urls.encode(bytes).into_bytes()[..40].to_vec(),
        list(&bytes[..16]),
    ]
}

/// Operators that log all they can: keys, shares, nonces, tokens are not in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_68_logs_of_operators_carry_no_secret() {
    let folder = Folder::new();
    // The same program, told to log everything.
    let loud = folder.path().join("loud");
    let script = format!(
        "#!/bin/sh\nRUST_LOG=trace exec '{}' \"$@\"\n",
        program().display()
    );
    std::fs::write(&loud, script).expect("a script");
    std::fs::set_permissions(&loud, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let plan = network::plan(&folder, database::any(), 20);
    let mut net = DevNet::start(plan, loud).await.expect("it starts");
    let place = net.plan().folder.clone();
    let vault = |index: u16| place.join(format!("operator-{index}")).join("vault");

    let mut secrets: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let collect = |secrets: &mut Vec<(&'static str, Vec<u8>)>| {
        for index in 0..OPERATORS {
            let held = secrets_of(&vault(index));
            assert!(held.len() > 20, "{} secrets", held.len());
            secrets.extend(held.into_iter().map(|secret| ("a vault's secret", secret)));
        }
    };
    collect(&mut secrets);
    let (alice, alice_signer) = network::new_wallet(&net, 0);
    let (bob, bob_signer) = network::new_wallet(&net, 1);
    network::deposit(&net, &[&alice], &[LEAF]).await;
    let leaf = alice.leaves().first().expect("a leaf").id;
    collect(&mut secrets);
    pay_and_claim(&alice, &bob).await;
    collect(&mut secrets);
    let mut tokens = Vec::new();
    for (index, signer) in [(0, &alice_signer), (1, &bob_signer), (2, &alice_signer)] {
        tokens.push(token(&net, index, signer).await);
    }
    // A request that fails tells nothing either.
    let mut caller = Caller::log_in(&net, 2, &bob_signer).await;
    tokens.push(caller.token().to_owned());
    let _ = caller.nodes([LeafId(uuid::Uuid::nil())]).await;
    network::flows_have_ended(&net).await;
    for index in 0..OPERATORS {
        net.kill(index).await;
    }
    for index in 0..OPERATORS {
        let stolen = steal(&place, index, &leaf).await;
        secrets.push(("a share", stolen.share));
        let key = place.join(format!("operator-{index}")).join("identity.key");
        let key = std::fs::read_to_string(key).expect("an identity");
        let key = hex::decode(key.trim()).expect("hexadecimal digits");
        secrets.push(("an identity key", key));
    }
    let mut spelled: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for (what, secret) in &secrets {
        spelled.extend(spellings(secret).into_iter().map(|text| (*what, text)));
    }
    for token in tokens {
        spelled.push(("a session", token.into_bytes()));
    }
    spelled.sort();
    spelled.dedup();
    for index in 0..OPERATORS {
        let log = network::log(&place, index);
        // It did log what it did.
        assert!(
            log.contains("TRACE") && log.len() > 100_000,
            "{}",
            log.len()
        );
        let found = found_in(log.as_bytes(), &spelled);
        assert!(found.is_empty(), "operator {index} logged {found:?}");
    }
    net.stop().await.expect("it stops");
    database::remove(&place, OPERATORS).await;
}

async fn token(net: &DevNet, index: u16, signer: &MemorySigner) -> String {
    let mut caller = Caller::log_in(net, index, signer).await;
    caller.transfers().await.expect("the session serves");
    caller.token().to_owned()
}
