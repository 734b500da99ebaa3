//! The program, as a person runs it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tinderbox_devnet::DevNet;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::program;

/// What one command may take, on a busy machine too.
const BOUND: Duration = Duration::from_secs(90);

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// What it printed; it must have succeeded.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self.out
    }

    /// Its error text; it must have failed, and told so like a program and not like an accident.
    pub(crate) fn bad(self) -> String {
        assert!(matches!(self.code, Some(1 | 2)), "{self:?}");
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }
}

/// The program with these arguments and this environment.
pub(crate) fn command<A: AsRef<std::ffi::OsStr>>(args: &[A]) -> Command {
    let mut command = Command::new(program());
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_remove("TINDERBOX_WALLET_DIR")
        .kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub(crate) async fn run(mut command: Command, input: &str) -> Ended {
    let mut child = command.spawn().expect("the program runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that does not read its input has closed it, which is no error.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(BOUND, child.wait_with_output())
        .await
        .unwrap_or_else(|_| panic!("{command:?} is not over after {} s", BOUND.as_secs()))
        .expect("it ends");
    Ended {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A wallet in a folder of its own, used through the program.
pub(crate) struct CliWallet {
    folder: PathBuf,
    config: PathBuf,
}

impl CliWallet {
    /// A folder `name` in `place`, and a configuration for `net`. No wallet is made yet.
    pub(crate) fn new(net: &DevNet, place: &Path, name: &str) -> Self {
        let config = net.wallet_config(0).expect("a configuration");
        let file = place.join(format!("{name}.toml"));
        std::fs::write(&file, toml::to_string(&config).expect("it is TOML")).expect("written");
        Self {
            folder: place.join(name),
            config: file,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = command(&["wallet", "--wallet-dir"]);
        command
            .arg(&self.folder)
            .arg("--config")
            .arg(&self.config)
            .args(args);
        command
    }

    /// Runs a command of it.
    pub(crate) async fn run(&self, args: &[&str]) -> Ended {
        run(self.command(args), "").await
    }

    /// What a command prints as JSON.
    pub(crate) async fn json(&self, args: &[&str]) -> Value {
        self.json_of(args, "").await
    }

    /// What a command with this input prints as JSON.
    pub(crate) async fn json_of(&self, args: &[&str], input: &str) -> Value {
        let mut command = self.command(args);
        command.arg("--json");
        let text = run(command, input).await.good();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }
}
