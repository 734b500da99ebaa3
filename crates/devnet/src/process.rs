//! An operator's processes as child processes.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::{Error, Result};

/// How long an operator may take to become ready.
const READY: Duration = Duration::from_secs(90);
/// How often it is asked.
const ASK: Duration = Duration::from_millis(25);
/// How long a stopped one may take to end.
const STOP: Duration = Duration::from_secs(20);
/// How much of the log is shown when one does not start.
const TAIL: u64 = 2000;

/// A process of an operator, or the place for one.
pub(crate) struct Process {
    /// The operator's place.
    pub(crate) index: u16,
    /// Which of its processes.
    pub(crate) part: Part,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
}

/// What a process of an operator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The only one that serves, or one of several.
    Serves {
        /// Which.
        replica: u16,
        /// Where it says whether it is ready.
        ready: String,
    },
    /// Keeps the keys for the others.
    Signer {
        /// The socket that it makes.
        socket: PathBuf,
    },
}

impl Process {
    /// A process that serves.
    pub(crate) fn serving(
        index: u16,
        replica: u16,
        program: PathBuf,
        config: &Path,
        log: PathBuf,
        metrics: u16,
    ) -> Self {
        let words = ["operator", "run", "--supervised", "--config"];
        Self {
            index,
            part: Part::Serves {
                replica,
                ready: format!("http://127.0.0.1:{metrics}/ready/all"),
            },
            program,
            arguments: words
                .into_iter()
                .map(OsString::from)
                .chain([config.into()])
                .collect(),
            log,
            child: None,
        }
    }

    /// The signer of several processes.
    pub(crate) fn signer(
        index: u16,
        program: PathBuf,
        arguments: Vec<OsString>,
        socket: PathBuf,
        log: PathBuf,
    ) -> Self {
        Self {
            index,
            part: Part::Signer { socket },
            program,
            arguments,
            log,
            child: None,
        }
    }

    /// Starts the process; it ends by itself when this one does, however that happens.
    pub(crate) fn start(&mut self) -> Result<()> {
        let file = |why| Error::File {
            path: self.log.clone(),
            why,
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(file)?;
        let errors = log.try_clone().map_err(file)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            // Ctrl-C in a terminal is the supervisor's to hear, which stops them in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|why| Error::File {
                path: self.program.clone(),
                why,
            })?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it serves.
    pub(crate) async fn wait_ready(&mut self, client: &reqwest::Client) -> Result<()> {
        let begun = Instant::now();
        let mut missing = "it does not answer yet".to_owned();
        while begun.elapsed() < READY {
            if let Some(status) = self.ended() {
                return Err(self.failed(format!("it ended with {status}:\n{}", self.tail())));
            }
            match &self.part {
                Part::Serves { ready, .. } => match client.get(ready).send().await {
                    Ok(reply) if reply.status().is_success() => return Ok(()),
                    Ok(reply) => missing = reply.text().await.unwrap_or_default(),
                    Err(_) => {}
                },
                Part::Signer { socket } => {
                    if tokio::net::UnixStream::connect(socket).await.is_ok() {
                        return Ok(());
                    }
                }
            }
            tokio::time::sleep(ASK).await;
        }
        Err(self.failed(format!("after {} s: {}", READY.as_secs(), missing.trim())))
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.is_some() && self.ended().is_none()
    }

    /// True if nobody ended it and yet it does not run.
    pub(crate) fn has_fallen(&mut self) -> bool {
        self.child.is_some() && self.ended().is_some()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
    }

    /// Asks it to end, and makes it if it does not.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The end of its input is the sign.
            drop(child.stdin.take());
            if tokio::time::timeout(STOP, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }

    fn failed(&self, why: String) -> Error {
        Error::Operator {
            index: self.index,
            why,
            log: self.log.clone(),
        }
    }

    fn tail(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(&self.log) {
            let length = file.metadata().map(|meta| meta.len()).unwrap_or(0);
            let _ = file.seek(SeekFrom::Start(length.saturating_sub(TAIL)));
            let mut bytes = Vec::new();
            let _ = file.read_to_end(&mut bytes);
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        text
    }
}
