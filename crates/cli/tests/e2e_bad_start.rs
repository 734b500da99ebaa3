//! Programs that must not start: each ends with an error that names what is wrong and what to do,
//! and leaves everything as it was.

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use rand::RngCore as _;
use tempfile::TempDir;
use tinderbox_devnet::{DatabaseChoice, DevNet};
use tinderbox_protocol::Sats;

use common::cli::{command, run};
use common::network::{self, Folder};
use common::{PATIENCE, eventually};

/// The operator whose files are spoiled.
const VICTIM: u16 = 2;

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// What `tinderbox` says to these arguments; it must fail.
async fn bad(args: &[&str]) -> String {
    run(command(args), "").await.bad()
}

/// What `tinderbox up` says to these arguments on free ports; it must fail, and leave no process.
async fn bad_up(folder: &Path, args: &[&str]) -> String {
    let mut command = command(&["up", "--json", "--data-dir"]);
    command
        .arg(folder)
        .args(["--port-base", &free_base().to_string()])
        .args(args);
    run(command, "").await.bad()
}

/// A port below which and above which are the free ones that a network takes.
fn free_base() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests of this file run at the same time.
    for _ in 0..32 {
        let base = 20_000 + 311 * NEXT.fetch_add(1, Ordering::Relaxed);
        let ports = [base - 1, base, base + 1, base + 2, base + 100, base + 200];
        if ports
            .iter()
            .all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        {
            return base;
        }
    }
    panic!("no free ports");
}

#[tokio::test]
async fn unknown_flags_commands_and_values_are_named() {
    for (args, expected) in [
        (&["up", "--louder"][..], "--louder"),
        (&["fly"], "fly"),
        (&["up", "--operators", "many"], "many"),
        (&["up", "--mine-every", "-1"], "-1"),
        (&["operator", "run"], "--config"),
        (&["bench", "--payments", "x"], "--payments"),
    ] {
        let ended = run(command(args), "").await;
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.err.contains(expected), "{args:?}: {}", ended.err);
        assert!(ended.err.contains("--help"), "{args:?}: {}", ended.err);
    }
    assert!(
        bad(&["bench", "--wallets", "1"])
            .await
            .contains("at least 2")
    );
}

#[tokio::test]
async fn a_network_that_makes_no_sense_is_refused_before_anything_is_made() {
    let place = scratch();
    let folder = place.path().join("network");
    for (args, expected) in [
        (&["--threshold", "4"][..], "3 operators with threshold 4"),
        (&["--threshold", "1"], "threshold must be at least 2"),
        (&["--operators", "1"], "2 to 5 operators"),
        (&["--operators", "6"], "2 to 5 operators"),
        (
            &["--database", "mysql://root@localhost/x"],
            "use sqlite, or postgres://",
        ),
    ] {
        let error = bad_up(&folder, args).await;
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    assert!(!folder.exists());
    // A password is not repeated.
    let error = bad_up(&folder, &["--database", "mysql://root:hunter2@localhost/x"]).await;
    assert!(!error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_busy_port_is_named_with_what_it_is_for() {
    let place = scratch();
    let base = free_base();
    for (offset, what) in [(1, "wallets"), (101, "operators"), (201, "metrics")] {
        let taken = TcpListener::bind(("127.0.0.1", base + offset)).expect("it was free");
        let base = base.to_string();
        let folder = place.path().join("network");
        let mut command = command(&["up", "--port-base", &base, "--data-dir"]);
        command.arg(&folder);
        let error = run(command, "").await.bad();
        assert!(
            error.contains(&taken.local_addr().expect("bound").port().to_string()),
            "{error}"
        );
        assert!(
            error.contains(what) && error.contains("--port-base"),
            "{error}"
        );
        assert!(!folder.join("bitcoin").exists(), "nothing was started");
    }
}

/// A program that prints `text` when it is asked for its version.
fn fake_bitcoind(place: &Path, text: &str) -> PathBuf {
    let path = place.join("bitcoind");
    fs::write(&path, format!("#!/bin/sh\necho '{text}'\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

#[tokio::test]
async fn a_missing_or_old_bitcoind_is_an_error_that_says_how_to_get_one() {
    let place = scratch();
    let with = async |bitcoind: &Path| {
        let mut command = command(&["demo"]);
        command.env("BITCOIND", bitcoind);
        run(command, "").await.bad()
    };
    let error = with(&place.path().join("nowhere")).await;
    assert!(
        error.contains("nowhere") && error.contains("Correct it, or unset it"),
        "{error}"
    );
    let old = fake_bitcoind(place.path(), "Bitcoin Core daemon version v28.1.0 bitcoind");
    let error = with(&old).await;
    assert!(
        error.contains("version 280100") && error.contains("29.0"),
        "{error}"
    );
    let error = with(&fake_bitcoind(place.path(), "good morning")).await;
    assert!(error.contains("does not tell its version"), "{error}");
    // An old one on the path, none in the cache.
    fake_bitcoind(place.path(), "Bitcoin Core daemon version v0.21.0");
    let mut command = command(&["demo"]);
    command
        .env_remove("BITCOIND")
        .env("PATH", place.path())
        .env("TINDERBOX_CACHE", place.path().join("cache"));
    let error = run(command, "").await.bad();
    assert!(
        error.contains("is version 2100") && error.contains("scripts/bitcoind"),
        "{error}"
    );
}

#[tokio::test]
async fn a_data_folder_that_is_damaged_or_of_another_network_is_left_alone() {
    let place = scratch();
    let folder = place.path().join("network");
    fs::create_dir(&folder).expect("made");
    let shape = folder.join("network.toml");
    fs::write(&shape, "operators = \"three\"\n").expect("written");
    let error = bad_up(&folder, &[]).await;
    assert!(
        error.contains("network.toml is damaged") && error.contains("--fresh"),
        "{error}"
    );
    assert_eq!(
        fs::read_to_string(&shape).expect("it is there"),
        "operators = \"three\"\n"
    );

    let other = "format = 1\noperators = 4\nthreshold = 3\ndatabase = \"sqlite\"\ntag = \"00\"\n";
    fs::write(&shape, other).expect("written");
    let error = bad_up(&folder, &[]).await;
    assert!(
        error.contains("holds a network of 4 operators, threshold 3"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&shape).expect("it is there"), other);

    let newer = format!("{other}colour = \"blue\"\n");
    fs::write(&shape, &newer).expect("written");
    assert!(bad_up(&folder, &[]).await.contains("newer release"));

    let file = place.path().join("file");
    fs::write(&file, "mine").expect("written");
    let error = bad_up(&file, &[]).await;
    assert!(error.contains(&file.display().to_string()), "{error}");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "mine");
    assert!(!folder.join("bitcoin").exists(), "nothing was started");
}

/// One network whose third operator is down: copies of its files are spoiled, one at a time.
struct Scene {
    net: DevNet,
    place: PathBuf,
    scratch: TempDir,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_with_spoiled_files_does_not_start_and_says_what_to_do() {
    let folder = Folder::new();
    let mut net = network::start(network::plan(&folder, DatabaseChoice::Sqlite, 16)).await;
    let (alice, _) = network::new_wallet(&net, 0);
    let (bob, _) = network::new_wallet(&net, 1);
    network::deposit(&net, &[&alice], &[Sats(10_000); 2]).await;
    alice
        .send(&bob.address(), Sats(10_000))
        .await
        .expect("a payment");
    bob.claim_pending().await.expect("it can be asked");
    network::flows_have_ended(&net).await;
    net.kill(VICTIM).await;
    let mut scene = Scene {
        place: net.plan().folder.clone(),
        net,
        scratch: scratch(),
    };

    scene.configurations().await;
    scene.databases().await;
    scene.keys_and_vaults().await;
    scene.nodes().await;
    scene.ports_and_folders_in_use().await;

    // With its own files it comes back, and everything is there.
    scene.net.restart(VICTIM).expect("it starts");
    scene.net.ready().await.expect("it is ready");
    eventually("payments go on", PATIENCE, || async {
        bob.sync().await.map_err(|error| error.to_string())?;
        let sent = bob.send(&alice.address(), Sats(10_000)).await;
        sent.map(drop).map_err(|error| error.to_string())
    })
    .await;
    alice.claim_pending().await.expect("it can be asked");
    assert_eq!(
        alice.balance().await.expect("a balance").available,
        Sats(20_000)
    );
    let place = scene.place.clone();
    scene.net.stop().await.expect("it stops");
    network::assert_no_panic(&place, 3);
}

impl Scene {
    fn own(&self, file: &str) -> PathBuf {
        self.place.join(format!("operator-{VICTIM}")).join(file)
    }

    fn copy(&self, file: &str) -> PathBuf {
        self.scratch.path().join(file)
    }

    fn own_text(&self) -> String {
        fs::read_to_string(self.own("operator.toml")).expect("a configuration")
    }

    /// Fresh copies of the operator's files, and its configuration on them.
    fn copies(&self) -> String {
        for file in ["rows.sqlite", "rows.sqlite-wal", "vault", "identity.key"] {
            if self.own(file).exists() {
                fs::copy(self.own(file), self.copy(file)).expect("copied");
            } else {
                let _ = fs::remove_file(self.copy(file));
            }
        }
        let own = self.own("").display().to_string();
        let copy = self.copy("").display().to_string();
        self.own_text().replace(&own, &copy)
    }

    /// What an operator with this configuration says; it must not start.
    async fn refused(&self, config: &str) -> String {
        let path = self.copy("operator.toml");
        fs::write(&path, config).expect("written");
        let mut command = command(&["operator", "run", "--supervised", "--config"]);
        // Its log would be in between.
        command.arg(&path).env("RUST_LOG", "off");
        // The input stays open, as a supervisor's would: it must end by itself.
        let mut child = command.spawn().expect("it runs");
        let _open = child.stdin.take();
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output());
        let ended = ended.await.expect("it does not start").expect("it ends");
        let error = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{error}");
        assert!(
            error.starts_with("error: ") && !error.contains("panicked"),
            "{error}"
        );
        println!("{}", error.trim());
        error
    }

    async fn configurations(&self) {
        let own = self.own_text();
        let check = async |config: &str| {
            let path = self.copy("operator.toml");
            fs::write(&path, config).expect("written");
            let mut command = command(&["operator", "check", "--config"]);
            command.arg(&path);
            let ended = run(command, "").await.bad();
            // What check says, run says.
            assert_eq!(self.refused(config).await, ended);
            ended
        };
        let error = check(&format!("colour = \"blue\"\n{own}")).await;
        assert!(
            error.contains("colour") && error.contains("remove the named key"),
            "{error}"
        );
        let error = check(&own.replace("threshold = 2", "threshold = 1")).await;
        assert!(
            error.contains("threshold is 1 of 3 operators: use more than half"),
            "{error}"
        );
        let several = own
            .replace("threshold = 2", "threshold = 9")
            .replace("network = \"local\"", "network = \"moon\"")
            .replace(&format!("index = {VICTIM}"), "index = 7");
        let error = check(&several).await;
        for words in [
            "threshold is 9",
            "network is \"moon\"",
            "index is 7",
            "3 bad value(s)",
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
        // Published keys are for local networks alone, and so is the mock service.
        let error = check(&own.replace("network = \"local\"", "network = \"mainnet\"")).await;
        assert!(
            error.contains("published test key") && error.contains("mock is true"),
            "{error}"
        );
        let error = check("this is no TOML").await;
        assert!(error.contains("not understood"), "{error}");
        let missing = self.copy("nowhere.toml").display().to_string();
        let error = bad(&["operator", "run", "--config", &missing]).await;
        assert!(
            error.contains("nowhere.toml") && error.contains("Check the path"),
            "{error}"
        );
    }

    async fn databases(&self) {
        let config = self.copies();
        let file = self.copy("rows.sqlite");
        fs::write(
            &file,
            "not a database, but a letter to a friend".repeat(200),
        )
        .expect("written");
        let _ = fs::remove_file(self.copy("rows.sqlite-wal"));
        let error = self.refused(&config).await;
        assert!(
            error.contains("rows.sqlite") && error.contains("backup"),
            "{error}"
        );
        let letter = fs::read_to_string(&file).expect("it is there");
        assert!(letter.starts_with("not a database"), "it is as it was");

        // The page that says what is in it is overwritten, the log is gone.
        let config = self.copies();
        self.flush();
        let mut bytes = fs::read(&file).expect("it is there");
        rand::thread_rng().fill_bytes(&mut bytes[100..4096]);
        fs::write(&file, &bytes).expect("written");
        let error = self.refused(&config).await;
        assert!(
            error.contains("damaged") && error.contains("restore the latest backup"),
            "{error}"
        );

        // Half of it is lost.
        let config = self.copies();
        self.flush();
        let bytes = fs::read(&file).expect("it is there");
        fs::write(&file, &bytes[..bytes.len() / 8192 * 4096]).expect("written");
        let error = self.refused(&config).await;
        assert!(
            error.contains("damaged") && error.contains("restore the latest backup"),
            "{error}"
        );

        // A later release wrote it.
        let config = self.copies();
        self.flush();
        let sql = rusqlite::Connection::open(&file).expect("it opens");
        sql.pragma_update(None, "user_version", 99)
            .expect("written");
        drop(sql);
        let error = self.refused(&config).await;
        assert!(
            error.contains("schema 99") && error.contains("run the newer release"),
            "{error}"
        );

        // Another program's.
        let config = self.copies();
        let _ = fs::remove_file(self.copy("rows.sqlite-wal"));
        fs::remove_file(&file).expect("removed");
        let sql = rusqlite::Connection::open(&file).expect("it opens");
        sql.execute_batch("CREATE TABLE recipes (name TEXT)")
            .expect("made");
        drop(sql);
        let error = self.refused(&config).await;
        assert!(error.contains("is not an operator's database"), "{error}");

        // None can be made there.
        let config = self
            .copies()
            .replace("rows.sqlite", "identity.key/rows.sqlite");
        let error = self.refused(&config).await;
        assert!(
            error.contains("check the path and its permissions"),
            "{error}"
        );
    }

    /// Brings the copied database's log into its file.
    fn flush(&self) {
        let sql = rusqlite::Connection::open(self.copy("rows.sqlite")).expect("it opens");
        sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .expect("flushed");
    }

    async fn keys_and_vaults(&self) {
        let config = self.copies();
        let key = self.copy("identity.key");
        fs::write(&key, "00".repeat(32)).expect("written");
        let error = self.refused(&config).await;
        assert!(
            error.contains("64 hex digits") || error.contains("secret key"),
            "{error}"
        );
        let others = self.place.join("operator-0").join("identity.key");
        fs::copy(&others, &key).expect("copied");
        let error = self.refused(&config).await;
        assert!(
            error.contains(&format!("operators[{VICTIM}].identity")),
            "{error}"
        );
        fs::remove_file(&key).expect("removed");
        let error = self.refused(&config).await;
        assert!(error.contains("identity.key"), "{error}");

        let config = self.copies();
        let vault = self.copy("vault");
        fs::write(&vault, "a shopping list").expect("written");
        let error = self.refused(&config).await;
        assert!(error.contains("vault"), "{error}");
        // Nothing was written over it.
        assert_eq!(
            fs::read_to_string(&vault).expect("it is there"),
            "a shopping list"
        );
        let foreign = self.place.join("operator-0").join("vault");
        fs::copy(&foreign, &vault).expect("copied");
        let error = self.refused(&config).await;
        assert!(
            error.contains("vault") && error.contains("operator"),
            "{error}"
        );
    }

    async fn nodes(&self) {
        let config = self.copies();
        let user = config
            .lines()
            .find(|line| line.starts_with("password ="))
            .expect("a password");
        let error = self
            .refused(&config.replace(user, "password = \"wrong\""))
            .await;
        assert!(error.contains("refused the credentials"), "{error}");
    }

    async fn ports_and_folders_in_use(&self) {
        let config = self.copies();
        let port = self.net.plan().ports.public[usize::from(VICTIM)];
        let taken = TcpListener::bind(("127.0.0.1", port)).expect("the operator is down");
        let error = self.refused(&config).await;
        assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
        assert!(error.contains("another process"), "{error}");
        drop(taken);
        // The database of an operator that runs.
        let running = self
            .place
            .join("operator-0")
            .join("rows.sqlite")
            .display()
            .to_string();
        let own = self.copy("rows.sqlite").display().to_string();
        let error = self.refused(&config.replace(&own, &running)).await;
        assert!(error.contains("in use by another process"), "{error}");
        // The folder of a network that runs.
        let error = bad_up(&self.place, &[]).await;
        assert!(error.contains("is used by another tinderbox"), "{error}");
    }
}
