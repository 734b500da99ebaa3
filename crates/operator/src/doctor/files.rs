//! Files: who can read them, whether they fit, how long they last.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tinderbox_rpc::tls;
use tinderbox_signer::Identity;
use tinderbox_store::Database;

use super::Report;
use crate::config::{Config, SignerConfig};

/// A certificate that ends sooner is to be renewed now.
const RENEW: Duration = Duration::from_secs(21 * 24 * 3600);
/// Kibibytes that must be free for things to go on, and for a while.
const LITTLE: u64 = 256 * 1024;
const SOME: u64 = 5 * 1024 * 1024;

pub(super) fn examine(path: &Path, config: &Config, report: &mut Report) {
    // It may hold passwords.
    private(path, "configuration", false, report);
    if let SignerConfig::Embedded {
        identity_key,
        vault,
    } = &config.signer
    {
        private(identity_key, "identity key", true, report);
        if vault.exists() {
            private(vault, "vault", true, report);
        } else {
            report.warning(
                "vault",
                format!("{} does not exist", vault.display()),
                "right before the first start; afterwards it means that all key shares of this operator are lost",
            );
        }
        disk(vault, report);
    }
    if let Database::Sqlite { path } = &config.database {
        if path.exists() {
            private(path, "database file", false, report);
        }
        disk(path, report);
    }
    certificate(config, report);
}

/// Others on the machine must not read `path`.
fn private(path: &Path, about: &str, secret: bool, report: &mut Report) {
    let mode = match std::fs::metadata(path) {
        Ok(meta) => meta.permissions().mode() & 0o777,
        Err(error) => {
            report.bad(
                about,
                format!("{}: {error}", path.display()),
                "check the path and the rights of the operator's user",
            );
            return;
        }
    };
    let found = format!("{} has mode {mode:o}", path.display());
    let advice = format!("chmod 600 {}", path.display());
    match (mode & 0o077, secret) {
        (0, _) => report.good(about, found),
        (_, true) => report.bad(about, format!("{found}: others can read it"), advice),
        (_, false) => report.warning(about, format!("{found}: others can read it"), advice),
    }
}

/// The identity key, if it is in this file and is this operator's.
pub(super) fn identity(config: &Config, report: &mut Report) -> Option<Identity> {
    let SignerConfig::Embedded { identity_key, .. } = &config.signer else {
        return None;
    };
    match Identity::load(identity_key) {
        Ok(identity) => {
            let expected = config.own().map(|own| own.identity);
            if expected == Some(identity.public()) {
                report.good("identity", identity.public().to_string());
                Some(identity)
            } else {
                report.bad(
                    "identity",
                    format!(
                        "the key file is {}'s, the configuration says {}",
                        identity.public(),
                        expected.map(|key| key.to_string()).unwrap_or_default()
                    ),
                    "correct index, the list of operators, or the key file",
                );
                None
            }
        }
        Err(error) => {
            report.bad("identity", error.to_string(), "give the right key file");
            None
        }
    }
}

fn certificate(config: &Config, report: &mut Report) {
    let Some(path) = &config.tls.certificate else {
        if config.is_local() {
            report.good("certificate", "self-signed, made at each start");
        } else {
            report.bad(
                "certificate",
                "wallets get a self-signed one, made at each start: most refuse it",
                "set tls.certificate and tls.key",
            );
        }
        return;
    };
    let ends = match tls::not_after(path) {
        Ok(ends) => ends,
        Err(error) => {
            report.bad("certificate", error.to_string(), "replace the file");
            return;
        }
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let days = ends.saturating_sub(now) / 86_400;
    if ends <= now {
        report.bad(
            "certificate",
            format!("{} has expired", path.display()),
            "renew it and restart the operator: wallets cannot connect",
        );
    } else if ends <= now.saturating_add(RENEW.as_secs()) {
        report.warning(
            "certificate",
            format!("{} ends in {days} days", path.display()),
            "renew it and restart the operator",
        );
    } else {
        report.good("certificate", format!("good for {days} days"));
    }
}

/// Room where `path` is, or will be.
fn disk(path: &Path, report: &mut Report) {
    let Some(folder) = path.ancestors().skip(1).find(|folder| folder.is_dir()) else {
        return;
    };
    let Some(free) = free_kib(folder) else {
        report.warning(
            "disk",
            format!("the room at {} is not known", folder.display()),
            "look with df",
        );
        return;
    };
    let found = format!("{} MiB free at {}", free / 1024, folder.display());
    if free < LITTLE {
        report.bad(
            "disk",
            found,
            "make room now: without it nothing can be written",
        );
    } else if free < SOME {
        report.warning("disk", found, "make room");
    } else {
        report.good("disk", found);
    }
}

/// What `df` says, in kibibytes.
fn free_kib(folder: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}
