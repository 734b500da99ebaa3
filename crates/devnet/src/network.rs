//! The supervisor of a local network.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tinderbox_chain::{RegtestConfig, RegtestNode, Rpc};
use tinderbox_operator::config::{
    BitcoinSection, ConfigFile, DatabaseSection, Hidden, ListenSection, OperatorSection,
    PoolSection, SignerSection, TlsSection,
};

use crate::balancer::Balancer;
use crate::faucet::{Faucet, Front, FrontConfig, MiningTimer};
use crate::plan::{Ports, Shape};
use crate::process::{Part, Process};
use crate::report::{OperatorStatus, Status};
use crate::{DatabaseChoice, Error, Plan, Result, keys, postgres};

/// Format of the network's folder.
const FORMAT: u32 = 1;
/// How long a question to an operator may take.
const QUESTION: Duration = Duration::from_secs(2);

/// A running local network. Dropping it ends its processes.
pub struct DevNet {
    plan: Plan,
    /// All that serve, operator by operator.
    operators: Vec<Process>,
    signers: Vec<Process>,
    balancers: Vec<Balancer>,
    front: Option<Front>,
    front_config: FrontConfig,
    faucet: Faucet,
    timer: Option<MiningTimer>,
    node: RegtestNode,
    client: reqwest::Client,
    _lock: fs::File,
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |why| Error::File {
        path: path.to_owned(),
        why,
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(at(path))
}

impl DevNet {
    /// Starts everything and waits until wallets are served. `program` is the `tinderbox` program,
    /// which the operators are processes of.
    ///
    /// # Errors
    /// [`Error`], which says what to do; whatever was started is stopped again.
    pub async fn start(plan: Plan, program: PathBuf) -> Result<Self> {
        fs::create_dir_all(&plan.folder).map_err(at(&plan.folder))?;
        let folder = fs::canonicalize(&plan.folder).map_err(at(&plan.folder))?;
        let plan = Plan { folder, ..plan };
        let lock = lock(&plan.folder)?;
        plan.check_replicas()?;
        plan.ports.check()?;
        let shape = prepare_folder(&plan).await?;
        let node = RegtestNode::start(RegtestConfig {
            datadir: Some(plan.folder.join("bitcoin")),
            ..RegtestConfig::default()
        })
        .await?;
        let faucet = Faucet::new(node.rpc().clone()).await?;
        faucet.fund().await?;
        let front_config = FrontConfig {
            listen: ([127, 0, 0, 1], plan.ports.front).into(),
            ..FrontConfig::default()
        };
        let front = Front::start(faucet.clone(), front_config.clone()).await?;
        let (mut operators, mut signers, mut balancers) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..plan.operators {
            let set_up = SetUp {
                plan: &plan,
                shape: &shape,
                node: &node,
                program: &program,
                index,
            };
            if plan.replicas <= 1 {
                operators.push(set_up.alone()?);
                continue;
            }
            signers.push(set_up.signer()?);
            let ports = Ports::free(plan.replicas)?;
            for (replica, ports) in
                (0..).zip(ports.public.iter().zip(&ports.peer).zip(&ports.metrics))
            {
                let ((public, peer), metrics) = ports;
                let metrics = match replica {
                    0 => SetUp::port(&plan.ports.metrics, index),
                    _ => *metrics,
                };
                operators.push(set_up.replica(replica, [*public, *peer, metrics])?);
            }
            let (public, peer) = (&plan.ports.public, &plan.ports.peer);
            for (port, targets) in [(public, ports.public), (peer, ports.peer)] {
                balancers.push(Balancer::start(SetUp::port(port, index), targets).await?);
            }
        }
        let timer = plan.mine_every.map(|interval| faucet.mine_every(interval));
        let client = reqwest::Client::builder()
            .timeout(QUESTION)
            .no_proxy()
            .build()
            .map_err(|error| Error::Found(error.to_string()))?;
        let mut net = Self {
            plan,
            operators,
            signers,
            balancers,
            front: Some(front),
            front_config,
            faucet,
            timer,
            node,
            client,
            _lock: lock,
        };
        let client = &net.client;
        for signer in &mut net.signers {
            signer.start()?;
            signer.wait_ready(client).await?;
        }
        for operator in &mut net.operators {
            operator.start()?;
        }
        try_join_all(
            net.operators
                .iter_mut()
                .map(|operator| operator.wait_ready(client)),
        )
        .await?;
        Ok(net)
    }

    /// The plan that it runs.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The faucet.
    #[must_use]
    pub const fn faucet(&self) -> &Faucet {
        &self.faucet
    }

    /// The node.
    #[must_use]
    pub fn rpc(&self) -> &Rpc {
        self.node.rpc()
    }

    /// What a wallet needs to use this network.
    ///
    /// # Errors
    /// If the configuration does not make sense.
    pub fn wallet_config(&self, coordinator: u16) -> Result<tinderbox_wallet::Config> {
        let mut config = tinderbox_wallet::Config::local(self.plan.operators)?;
        config.threshold = self.plan.threshold;
        config.coordinator = coordinator;
        for (operator, port) in config.operators.iter_mut().zip(&self.plan.ports.public) {
            operator.url = format!("https://localhost:{port}");
        }
        config.bitcoind.url = format!("http://127.0.0.1:{}", self.plan.ports.front);
        Ok(config)
    }

    /// Kills all serving processes of an operator with SIGKILL.
    pub async fn kill(&mut self, index: u16) {
        for process in self.operators.iter_mut().filter(|one| one.index == index) {
            process.kill().await;
        }
    }

    /// Kills one of the serving processes of an operator with SIGKILL.
    pub async fn kill_replica(&mut self, index: u16, replica: u16) {
        for process in self.operators.iter_mut().filter(|one| one.index == index) {
            if matches!(process.part, Part::Serves { replica: found, .. } if found == replica) {
                process.kill().await;
            }
        }
    }

    /// Starts the processes of an operator that were killed; returns when they run, before they are
    /// ready.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub fn restart(&mut self, index: u16) -> Result<()> {
        let processes = self.signers.iter_mut().chain(&mut self.operators);
        for process in processes.filter(|one| one.index == index) {
            if !process.is_running() {
                process.start()?;
            }
        }
        Ok(())
    }

    /// Waits until every operator serves wallets.
    ///
    /// # Errors
    /// [`Error::Operator`].
    pub async fn ready(&mut self) -> Result<()> {
        let client = &self.client;
        try_join_all(
            self.operators
                .iter_mut()
                .map(|operator| operator.wait_ready(client)),
        )
        .await?;
        Ok(())
    }

    /// An operator's metrics, as Prometheus text.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn metrics(&self, index: u16) -> Result<String> {
        let port = self
            .plan
            .ports
            .metrics
            .get(usize::from(index))
            .copied()
            .unwrap_or_default();
        let failed = |error: reqwest::Error| Error::Found(format!("metrics: {error}"));
        self.client
            .get(format!("http://127.0.0.1:{port}/metrics"))
            .send()
            .await
            .map_err(failed)?
            .text()
            .await
            .map_err(failed)
    }

    /// Process ids: operators first, then the node.
    #[must_use]
    pub fn pids(&self) -> Vec<(String, u32)> {
        let mut pids: Vec<_> = self
            .operators
            .iter()
            .chain(&self.signers)
            .filter_map(|process| Some((self.name(process), process.pid()?)))
            .collect();
        pids.push(("bitcoind".to_owned(), self.node.pid()));
        pids
    }

    fn name(&self, process: &Process) -> String {
        let index = process.index;
        match process.part {
            Part::Signer { .. } => format!("signer {index}"),
            Part::Serves { replica, .. } if self.plan.replicas > 1 => {
                format!("operator {index}.{replica}")
            }
            Part::Serves { .. } => format!("operator {index}"),
        }
    }

    /// What runs where.
    pub fn status(&mut self) -> Status {
        let plan = &self.plan;
        let operators = (0..plan.operators)
            .zip(plan.ports.public.iter().zip(&plan.ports.metrics))
            .map(|(index, (public, metrics))| {
                let mut own: Vec<&mut Process> = self
                    .operators
                    .iter_mut()
                    .filter(|process| process.index == index)
                    .collect();
                OperatorStatus {
                    index,
                    address: format!("https://localhost:{public}"),
                    identity: keys::public(index).to_string(),
                    metrics: format!("http://127.0.0.1:{metrics}/metrics"),
                    pid: own.first().and_then(|process| process.pid()),
                    pids: own.iter().filter_map(|process| process.pid()).collect(),
                    running: own.iter_mut().any(|process| process.is_running()),
                }
            })
            .collect();
        Status {
            folder: plan.folder.display().to_string(),
            database: plan.database.name().to_owned(),
            threshold: plan.threshold,
            bitcoin: [
                format!("http://127.0.0.1:{}", plan.ports.front),
                self.front_config.user.clone(),
                self.front_config.password.clone(),
            ],
            operators,
        }
    }

    /// The first operator that has ended although nobody ended it.
    pub fn fallen(&mut self) -> Option<u16> {
        self.operators
            .iter_mut()
            .chain(&mut self.signers)
            .find_map(|process| process.has_fallen().then_some(process.index))
    }

    /// Stops everything, in order: wallets' side, then node.
    ///
    /// # Errors
    /// If the node does not end.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.timer.take());
        join_all(self.operators.iter_mut().map(Process::stop)).await;
        join_all(self.signers.iter_mut().map(Process::stop)).await;
        self.balancers.clear();
        if let Some(front) = self.front.take() {
            front.stop().await;
        }
        self.node.stop().await?;
        Ok(())
    }
}

fn lock(folder: &Path) -> Result<fs::File> {
    let path = folder.join("lock");
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Locked(folder.to_owned())),
        Err(fs::TryLockError::Error(why)) => Err(Error::File { path, why }),
    }
}

/// Makes the folder ready, or takes over the network that it holds.
async fn prepare_folder(plan: &Plan) -> Result<Shape> {
    let path = plan.folder.join("network.toml");
    let known: Option<Shape> = match fs::read_to_string(&path) {
        Ok(text) => Some(toml::from_str(&text).map_err(|error| {
            Error::Found(format!(
                "{} is damaged, or of a newer release ({error}): use --fresh to start anew",
                path.display()
            ))
        })?),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => None,
        Err(why) => return Err(Error::File { path, why }),
    };
    if plan.fresh {
        if let (Some(known), DatabaseChoice::Postgres(url)) = (&known, &plan.database) {
            for index in 0..known.operators {
                postgres::drop_schema(url, &postgres::schema(&known.tag, index)).await?;
            }
        }
        for entry in fs::read_dir(&plan.folder)
            .map_err(at(&plan.folder))?
            .flatten()
        {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Only what a network makes is removed.
            if name == "bitcoin" || name.starts_with("operator-") {
                fs::remove_dir_all(entry.path()).map_err(at(&entry.path()))?;
            }
        }
    }
    let wanted = Shape {
        format: FORMAT,
        operators: plan.operators,
        threshold: plan.threshold,
        database: plan.database.name().to_owned(),
        tag: match known.as_ref().filter(|_| !plan.fresh) {
            Some(known) => known.tag.clone(),
            None => format!("{:08x}", rand::random::<u32>()),
        },
    };
    match known {
        Some(known) if !plan.fresh && known != wanted => Err(Error::OtherNetwork {
            folder: plan.folder.clone(),
            found: known.to_string(),
            wanted: wanted.to_string(),
        }),
        _ => {
            let text = toml::to_string(&wanted).map_err(|error| Error::Found(error.to_string()))?;
            write(&path, &text)?;
            Ok(wanted)
        }
    }
}

/// What it takes to set an operator up.
struct SetUp<'a> {
    plan: &'a Plan,
    shape: &'a Shape,
    node: &'a RegtestNode,
    program: &'a Path,
    index: u16,
}

impl SetUp<'_> {
    fn port(ports: &[u16], index: u16) -> u16 {
        ports.get(usize::from(index)).copied().unwrap_or_default()
    }

    fn folder(&self) -> PathBuf {
        self.plan.folder.join(format!("operator-{}", self.index))
    }

    /// The folder with the identity key in it; where key and vault are.
    fn keys(&self) -> Result<(PathBuf, PathBuf)> {
        let folder = self.folder();
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let key = folder.join("identity.key");
        write(&key, keys::secret_hex(self.index))?;
        Ok((key, folder.join("vault")))
    }

    /// The only process of an operator.
    fn alone(&self) -> Result<Process> {
        let (key, vault) = self.keys()?;
        let ports = &self.plan.ports;
        let own =
            [&ports.public, &ports.peer, &ports.metrics].map(|ports| Self::port(ports, self.index));
        let signer = SignerSection {
            identity_key: Some(key),
            vault: Some(vault),
            socket: None,
        };
        self.process(0, own, signer, "operator.toml", "log")
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("signer.sock")
    }

    /// The process that keeps the keys of an operator that has several.
    fn signer(&self) -> Result<Process> {
        let (key, vault) = self.keys()?;
        let socket = self.socket();
        let numbers = [
            ("--index", self.index),
            ("--operators", self.plan.operators),
            ("--threshold", self.plan.threshold),
        ];
        let files = [
            ("--identity-key", &key),
            ("--vault", &vault),
            ("--socket", &socket),
        ];
        let mut arguments: Vec<OsString> = ["signer", "run", "--supervised"]
            .map(OsString::from)
            .to_vec();
        for (name, path) in files {
            arguments.extend([name.into(), path.into()]);
        }
        for (name, number) in numbers {
            arguments.extend([name.into(), number.to_string().into()]);
        }
        let program = self.program.to_owned();
        let log = self.folder().join("signer-log");
        Ok(Process::signer(self.index, program, arguments, socket, log))
    }

    /// One of several processes of an operator; the first is configured like an only one.
    fn replica(&self, replica: u16, own: [u16; 3]) -> Result<Process> {
        let signer = SignerSection {
            socket: Some(self.socket()),
            ..SignerSection::default()
        };
        let (config, log) = match replica {
            0 => ("operator.toml".to_owned(), "log".to_owned()),
            more => (format!("operator-{more}.toml"), format!("log-{more}")),
        };
        self.process(replica, own, signer, &config, &log)
    }

    fn process(
        &self,
        replica: u16,
        [public, peer, metrics]: [u16; 3],
        signer: SignerSection,
        config: &str,
        log: &str,
    ) -> Result<Process> {
        let Self {
            plan,
            shape,
            node,
            index,
            ..
        } = *self;
        let folder = self.folder();
        let (user, password) = node.credentials();
        let path = folder.join(config);
        let config = ConfigFile {
            network: "local".to_owned(),
            index,
            threshold: plan.threshold,
            deposit_confirmations: 3,
            exit_confirmations: None,
            mock: plan.mock,
            hide_balances: false,
            ssps: plan.ssps.iter().map(ToString::to_string).collect(),
            listen: ListenSection {
                public: format!("127.0.0.1:{public}"),
                peer: format!("127.0.0.1:{peer}"),
                metrics: Some(format!("127.0.0.1:{metrics}")),
            },
            tls: TlsSection::default(),
            database: match plan.database_of(index) {
                DatabaseChoice::Sqlite => DatabaseSection {
                    sqlite: Some(folder.join("rows.sqlite")),
                    ..DatabaseSection::default()
                },
                DatabaseChoice::Postgres(url) => DatabaseSection {
                    postgres: Some(Hidden(url.clone())),
                    schema: Some(postgres::schema(&shape.tag, index)),
                    ..DatabaseSection::default()
                },
            },
            signer,
            bitcoin: BitcoinSection {
                url: node.url(),
                user: Some(user.to_owned()),
                password: Some(Hidden(password.to_owned())),
                cookie: None,
                start_height: None,
            },
            pool: PoolSection {
                keyshares: plan.keyshares,
                ..PoolSection::default()
            },
            limits: tinderbox_operator::limits::Limits::default(),
            operators: (0..plan.operators)
                .map(|other| {
                    let port = |ports: &[u16]| Self::port(ports, other);
                    OperatorSection {
                        identity: keys::public(other).to_string(),
                        address: format!("https://localhost:{}", port(&plan.ports.public)),
                        peer: format!("127.0.0.1:{}", port(&plan.ports.peer)),
                    }
                })
                .collect(),
        };
        write(&path, &config.to_toml()?)?;
        Ok(Process::serving(
            index,
            replica,
            self.program.to_owned(),
            &path,
            folder.join(log),
            metrics,
        ))
    }
}
