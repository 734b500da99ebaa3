use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tinderbox_protocol::Network;
use tinderbox_wallet::{Config, SqliteStorage, Wallet};

/// The words, readable by their owner only.
const WORDS: &str = "words";
/// What the wallet is told, if the defaults of a local network do not fit.
const CONFIG: &str = "config.toml";
/// Exits, payments under way.
const DATABASE: &str = "wallet.db";

/// A wallet's folder.
pub(super) struct Folder {
    path: PathBuf,
    network: Network,
    config: Option<PathBuf>,
    operators: u16,
}

impl Folder {
    pub(super) fn new(
        path: Option<PathBuf>,
        network: Network,
        config: Option<PathBuf>,
        operators: u16,
    ) -> Result<Self> {
        let path = match path {
            Some(path) => path,
            None => {
                let home = std::env::var_os("HOME").context(
                    "there is no home folder. Say where the wallet is: --wallet-dir DIR",
                )?;
                Path::new(&home)
                    .join(".tinderbox")
                    .join("wallet")
                    .join(network.to_string())
            }
        };
        Ok(Self {
            path,
            network,
            config,
            operators,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn network(&self) -> Network {
        self.network
    }

    /// Writes the words of a new wallet. Never over those of another one.
    pub(super) fn keep_words(&self, words: &str) -> Result<()> {
        let file = self.path.join(WORDS);
        if file.exists() {
            bail!(
                "there is a wallet in {} already. Choose another folder with --wallet-dir",
                self.path.display()
            );
        }
        fs::create_dir_all(&self.path)
            .with_context(|| format!("the folder {} cannot be made", self.path.display()))?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let write = || {
            let mut handle = options.open(&file)?;
            handle.write_all(words.trim().as_bytes())?;
            handle.write_all(b"\n")?;
            handle.sync_all()
        };
        write().with_context(|| format!("the words cannot be written to {}", file.display()))
    }

    /// The configuration: from a file, or the usual one of a local network.
    pub(super) fn config(&self) -> Result<Config> {
        let in_folder = self.path.join(CONFIG);
        let file = self
            .config
            .clone()
            .or_else(|| in_folder.exists().then(|| in_folder.clone()));
        let config = match file {
            Some(file) => {
                let text = fs::read_to_string(&file).with_context(|| {
                    format!("the configuration {} cannot be read", file.display())
                })?;
                toml::from_str::<Config>(&text)
                    .with_context(|| format!("the configuration {} is wrong", file.display()))?
            }
            None if self.network == Network::Local => Config::local(self.operators)?,
            None => bail!(
                "network {} needs a configuration that names its operators: write {} or give --config FILE",
                self.network,
                in_folder.display()
            ),
        };
        if config.network != self.network {
            bail!(
                "the configuration is of network {}, but --network says {}. Make them agree",
                config.network,
                self.network
            );
        }
        config.check()?;
        Ok(config)
    }

    /// Opens the wallet. Asks no operator.
    pub(super) fn open(&self) -> Result<Wallet> {
        let file = self.path.join(WORDS);
        if !file.exists() {
            bail!(
                "there is no wallet in {}. Make one with \"tinderbox wallet create\" or \"restore\", or say where it \
                 is: --wallet-dir DIR",
                self.path.display()
            );
        }
        let words = fs::read_to_string(&file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        let storage = Arc::new(SqliteStorage::open(self.path.join(DATABASE))?);
        Ok(Wallet::open(self.config()?, &words, storage)?)
    }
}
