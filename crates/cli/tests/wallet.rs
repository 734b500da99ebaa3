//! What `tinderbox wallet` does without a network.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const WORDS: &str =
    "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinderbox"));
    command
        .args(["wallet", "--wallet-dir"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut child = command(folder).args(args).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn good(folder: &Path, args: &[&str], input: &str) -> String {
    let output = run(folder, args, input);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The message of a command that must fail, and not with a panic.
fn bad(folder: &Path, args: &[&str], input: &str) -> String {
    let output = run(folder, args, input);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "{args:?}: {:?} {error}",
        output.status
    );
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn restored() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    good(dir.path(), &["restore"], WORDS);
    dir
}

#[test]
fn a_new_wallet_can_be_restored_from_its_words() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let made: serde_json::Value =
        serde_json::from_str(&good(first.path(), &["create", "--json"], "")).unwrap();
    let words = made["words"].as_str().unwrap();
    assert_eq!(words.split(' ').count(), 12);
    let again: serde_json::Value =
        serde_json::from_str(&good(second.path(), &["restore", "--json"], words)).unwrap();
    assert_eq!(made["address"], again["address"]);
    assert!(made["address"].as_str().unwrap().starts_with("sparkl1"));
    let shown = good(second.path(), &["address"], "");
    assert_eq!(shown.trim(), made["address"].as_str().unwrap());
}

#[test]
fn two_new_wallets_differ() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    good(first.path(), &["create"], "");
    good(second.path(), &["create"], "");
    assert_ne!(
        good(first.path(), &["address"], ""),
        good(second.path(), &["address"], "")
    );
}

#[cfg(unix)]
#[test]
fn the_words_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = restored();
    let mode = std::fs::metadata(dir.path().join("words"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_wallet_is_never_overwritten() {
    let dir = restored();
    for args in [["create"], ["restore"]] {
        assert!(bad(dir.path(), &args, WORDS).contains("there is a wallet"));
    }
    assert_eq!(
        std::fs::read_to_string(dir.path().join("words"))
            .unwrap()
            .trim(),
        WORDS
    );
}

#[test]
fn words_with_a_mistake_are_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        "",
        "abandon",
        &WORDS.replace("about", "abandon"),
        &WORDS.replace("about", "abuot"),
    ] {
        assert!(
            bad(dir.path(), &["restore"], words).contains("Check spelling"),
            "{words}"
        );
    }
    assert!(!dir.path().join("words").exists());
}

#[test]
fn a_missing_wallet_says_how_to_make_one() {
    let dir = tempfile::tempdir().unwrap();
    let error = bad(dir.path(), &["balance"], "");
    assert!(error.contains("wallet create"), "{error}");
}

#[test]
fn an_unknown_configuration_key_is_an_error() {
    let dir = restored();
    std::fs::write(
        dir.path().join("config.toml"),
        "network = \"local\"\ncolour = \"blue\"\n",
    )
    .unwrap();
    let error = bad(dir.path(), &["address"], "");
    assert!(
        error.contains("colour") || error.contains("unknown field"),
        "{error}"
    );
}

#[test]
fn an_unknown_flag_or_command_is_an_error() {
    let dir = restored();
    assert!(bad(dir.path(), &["balance", "--loud"], "").contains("--loud"));
    assert!(bad(dir.path(), &["give"], "").contains("give"));
}

#[test]
fn a_network_without_configuration_asks_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let error = bad(dir.path(), &["--network", "mainnet", "create"], "");
    assert!(error.contains("config.toml"), "{error}");
    assert!(bad(dir.path(), &["--network", "moonnet", "create"], "").contains("moonnet"));
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let dir = restored();
    good(dir.path(), &["address"], "");
    // Byte 60 of an SQLite file is its user version, big-endian.
    let file = dir.path().join("wallet.db");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[60..64].copy_from_slice(&99u32.to_be_bytes());
    std::fs::write(&file, bytes).unwrap();
    let error = bad(dir.path(), &["address"], "");
    assert!(
        error.contains("version 99") && error.contains("newer program"),
        "{error}"
    );
}

#[test]
fn a_wallet_file_of_other_words_is_refused() {
    let dir = restored();
    good(dir.path(), &["address"], "");
    let other = "legal winner thank year wave sausage worth useful legal winner thank yellow";
    std::fs::write(dir.path().join("words"), other).unwrap();
    assert!(bad(dir.path(), &["address"], "").contains("belongs to"));
}

#[test]
fn addresses_of_other_networks_and_nonsense_are_refused_before_anything_is_asked() {
    let dir = restored();
    let foreign = "sparkrt1pgssxxk3xrpwvnhf5xxmyd8mqtmxjk5tuzkkrwlpzwzm6wvm2r9g0dcrqzq5qs";
    let error = bad(dir.path(), &["send", foreign, "5"], "");
    assert!(
        error.contains("not a valid Spark address") || error.contains("regtest"),
        "{error}"
    );
    assert!(bad(dir.path(), &["send", "nonsense", "5"], "").contains("not a valid Spark address"));
    assert!(bad(dir.path(), &["send", "nonsense", "five"], "").contains("five"));
    assert!(bad(dir.path(), &["claim-deposit", "12"], "").contains("64 hex digits"));
    let bitcoin = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq";
    assert!(bad(dir.path(), &["exit", "start", "--to", bitcoin], "").contains("another network"));
}

#[test]
fn without_a_network_the_error_names_what_cannot_be_reached() {
    let dir = restored();
    // Ports that nobody listens on.
    let config = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/unreachable.toml"
    ))
    .unwrap();
    std::fs::write(dir.path().join("config.toml"), config).unwrap();
    let error = bad(dir.path(), &["balance"], "");
    assert!(error.contains("localhost:1"), "{error}");
    assert!(bad(dir.path(), &["exit", "status"], "").contains("no exit is under way"));
    assert!(bad(dir.path(), &["exit", "resume", "--once"], "").contains("no exit is under way"));
    let bundle = good(dir.path(), &["exit", "export"], "");
    let file = dir.path().join("bundle.json");
    std::fs::write(&file, bundle).unwrap();
    let imported = good(dir.path(), &["exit", "import", file.to_str().unwrap()], "");
    assert!(imported.contains("0 exits"), "{imported}");
    std::fs::write(&file, "{").unwrap();
    assert!(bad(dir.path(), &["exit", "import", file.to_str().unwrap()], "").contains("not JSON"));
}
