//! A private regtest node as a child process.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bitcoin::{Address, Network, ScriptBuf};

use crate::error::{Error, Result};
use crate::find::find_bitcoind;
use crate::rpc::{Rpc, RpcConfig};

/// How long a node may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Attempts with other free ports, when somebody else takes the port in between.
const PORT_ATTEMPTS: u32 = 5;

/// How to start a [`RegtestNode`].
#[derive(Clone)]
pub struct RegtestConfig {
    /// The program; `None`: [`find_bitcoind`].
    pub bitcoind: Option<PathBuf>,
    /// Where its data lives; `None`: a temporary folder that is removed afterwards.
    pub datadir: Option<PathBuf>,
    /// RPC port on loopback; `None`: a free one.
    pub rpc_port: Option<u16>,
    /// RPC user.
    pub user: String,
    /// RPC password.
    pub password: String,
    /// Further lines for `bitcoin.conf`, for example `minrelaytxfee=0.00001`.
    pub extra: Vec<String>,
}

impl Default for RegtestConfig {
    fn default() -> Self {
        Self {
            bitcoind: None,
            datadir: None,
            rpc_port: None,
            user: "tinderbox".into(),
            password: "tinderbox".into(),
            extra: Vec::new(),
        }
    }
}

/// A running regtest node without peers and without a wallet, with a transaction index. Dropping it kills the
/// process; [`RegtestNode::stop`] ends it in good order, so that its data can be used again.
pub struct RegtestNode {
    child: Child,
    rpc: Rpc,
    port: u16,
    config: RegtestConfig,
    datadir: PathBuf,
    /// Removes the folder when dropped, after the process has ended.
    _temporary: Option<tempfile::TempDir>,
}

impl RegtestNode {
    /// A node with free port and temporary data, for tests.
    pub async fn temporary() -> Result<Self> {
        Self::start(RegtestConfig::default()).await
    }

    /// Starts a node and waits until it answers.
    pub async fn start(config: RegtestConfig) -> Result<Self> {
        let bitcoind = match &config.bitcoind {
            Some(path) => path.clone(),
            None => find_bitcoind()?,
        };
        let (datadir, temporary) = match &config.datadir {
            Some(dir) => (dir.clone(), None),
            None => {
                let dir = tempfile::Builder::new()
                    .prefix("tinderbox-bitcoind-")
                    .tempdir();
                let dir =
                    dir.map_err(|e| failed(&std::env::temp_dir(), format!("has no folder: {e}")))?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        std::fs::create_dir_all(&datadir)
            .map_err(|e| failed(&datadir, format!("has no folder: {e}")))?;

        let mut attempt = 0;
        loop {
            attempt += 1;
            let port = match config.rpc_port {
                Some(port) => {
                    // Core would report a busy port only in its log.
                    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|e| {
                        failed(
                            &datadir,
                            format!("cannot use port {port}: {e}. Stop what listens there, or choose another port"),
                        )
                    })?;
                    port
                }
                None => {
                    free_port().map_err(|e| failed(&datadir, format!("found no free port: {e}")))?
                }
            };
            write_config(&datadir, port, &config)
                .map_err(|e| failed(&datadir, format!("cannot be set up: {e}")))?;
            let child = spawn(&bitcoind, &datadir)?;
            let url = format!("http://127.0.0.1:{port}");
            let rpc = Rpc::new(RpcConfig::with_password(
                url,
                config.user.clone(),
                config.password.clone(),
            ))?;
            let mut node = Self {
                child,
                rpc,
                port,
                config: config.clone(),
                datadir: datadir.clone(),
                _temporary: None,
            };
            match node.wait_until_ready().await {
                Ok(()) => {
                    node._temporary = temporary;
                    return Ok(node);
                }
                // Somebody took the free port between our look and Core's.
                Err(Error::Node { what, .. })
                    if config.rpc_port.is_none()
                        && what.contains("bind")
                        && attempt < PORT_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A client of the node.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// The RPC port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The RPC address, without credentials.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The RPC user and password.
    pub fn credentials(&self) -> (&str, &str) {
        (&self.config.user, &self.config.password)
    }

    /// The data folder.
    pub fn datadir(&self) -> &Path {
        &self.datadir
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Mines blocks to a script nobody can spend, for tests that need time to pass.
    pub async fn mine(&self, blocks: u32) -> Result<()> {
        // No script has the hash zero.
        let nobody = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_raw_hash(
            bitcoin::hashes::Hash::all_zeros(),
        ));
        let address = Address::from_script(&nobody, Network::Regtest)
            .map_err(|e| failed(&self.datadir, format!("cannot be mined for: {e}")))?;
        self.rpc
            .generate_to_address(blocks, &address)
            .await
            .map(|_| ())
    }

    /// Stops the node in good order and waits for its end; its data stays if a folder was given.
    pub async fn stop(mut self) -> Result<()> {
        // The answer may be cut off by the stop itself; the process's end is what counts.
        let _ = self
            .rpc
            .call::<serde_json::Value>("stop", serde_json::json!([]))
            .await;
        if self.wait_for_end(STOP_LIMIT).await {
            return Ok(());
        }
        let what = format!(
            "did not stop within {} s and was killed",
            STOP_LIMIT.as_secs()
        );
        Err(failed(&self.datadir, what))
    }

    async fn wait_for_end(&mut self, limit: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + limit;
        while self.is_running() {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            let answer = self.rpc.blockchain_info().await;
            match answer {
                Ok(_) => return self.rpc.check(Some(Network::Regtest)).await,
                Err(_) if !self.is_running() => {
                    return Err(failed(
                        &self.datadir,
                        format!("ended at once: {}", self.last_words()),
                    ));
                }
                Err(error) if error.is_temporary() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What the node said last about its end.
    fn last_words(&self) -> String {
        let read =
            |name: &str| std::fs::read_to_string(self.datadir.join(name)).unwrap_or_default();
        let said = read("bitcoind.out");
        let words = said
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect::<Vec<_>>();
        let mut words = match words
            .len()
            .checked_sub(3)
            .and_then(|from| words.get(from..))
        {
            Some(last) => last.join("; "),
            None => words.join("; "),
        };
        if words.is_empty() {
            words = "it said nothing; see debug.log in that folder".into();
        }
        if words.contains("lock") {
            words.push_str(". Another bitcoind uses this folder; stop it, its process id is in regtest/bitcoind.pid");
        }
        words
    }
}

impl Drop for RegtestNode {
    fn drop(&mut self) {
        // Fails only if it has ended already; waiting leaves no zombie and frees the folder.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(datadir: &Path, what: String) -> Error {
    Error::Node {
        datadir: datadir.to_owned(),
        what,
    }
}

/// Ports for servers of local networks: below those that systems take for outgoing connections, which
/// would otherwise now and then have a server's port while it is being started or restarted.
const SERVERS: std::ops::Range<u16> = 10_000..32_000;

/// A port of the loopback address that was free a moment ago, another one at each call.
///
/// # Errors
/// If none is found.
pub fn free_port() -> std::io::Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for attempt in 0..500u32 {
        // Random: other processes look for ports at the same time.
        let hash = RandomState::new().hash_one(attempt);
        let place = u16::try_from(hash % u64::from(SERVERS.end - SERVERS.start)).unwrap_or(0);
        let port = SERVERS.start + place;
        if given.contains(&port) {
            continue;
        }
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => {
                given.insert(port);
                return Ok(port);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Settings go to a file that only we can read: arguments can be seen by every user of the machine.
fn write_config(datadir: &Path, port: u16, config: &RegtestConfig) -> std::io::Result<()> {
    let mut text = format!(
        "regtest=1\n\
         server=1\n\
         txindex=1\n\
         disablewallet=1\n\
         printtoconsole=0\n\
         listen=0\n\
         listenonion=0\n\
         dnsseed=0\n\
         discover=0\n\
         dbcache=64\n\
         par=1\n\
         shrinkdebugfile=1\n\
         rpcuser={}\n\
         rpcpassword={}\n\
         rpcthreads=32\n\
         rpcworkqueue=1024\n\
         [regtest]\n\
         connect=0\n\
         fallbackfee=0.0001\n\
         rpcbind=127.0.0.1\n\
         rpcallowip=127.0.0.1\n\
         rpcport={port}\n",
        config.user, config.password
    );
    for line in &config.extra {
        text.push_str(line);
        text.push('\n');
    }
    let path = datadir.join("bitcoin.conf");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    std::io::Write::write_all(&mut file, text.as_bytes())
}

fn spawn(bitcoind: &Path, datadir: &Path) -> Result<Child> {
    let cannot = |e: std::io::Error| {
        failed(
            datadir,
            format!("cannot be started ({}): {e}", bitcoind.display()),
        )
    };
    let output = std::fs::File::create(datadir.join("bitcoind.out")).map_err(cannot)?;
    let errors = output.try_clone().map_err(cannot)?;
    Command::new(bitcoind)
        .arg(format!("-datadir={}", datadir.display()))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        // A group of its own: Ctrl-C in a terminal is for us, who then stop the node in the right order.
        .process_group(0)
        .spawn()
        .map_err(cannot)
}
