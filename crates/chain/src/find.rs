//! Where a usable `bitcoind` is.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::rpc::MINIMUM_VERSION;

/// The `bitcoind` to use: the one that `BITCOIND` names, else the first on `PATH` that is new enough, else the
/// one in our cache (`TINDERBOX_CACHE`, by default `~/.cache/tinderbox`), where `scripts/bitcoind` puts it.
pub fn find_bitcoind() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("BITCOIND").filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        return match version_of(&named) {
            Ok(version) if version >= MINIMUM_VERSION => Ok(named),
            Ok(version) => Err(Error::NoBitcoind(format!(
                "BITCOIND names {}, version {version}: {MINIMUM_VERSION} (29.0) or newer is needed. \
                 Point it to a newer one, or unset it",
                named.display()
            ))),
            Err(reason) => Err(Error::NoBitcoind(format!(
                "BITCOIND names {}, which {reason}. Correct it, or unset it",
                named.display()
            ))),
        };
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut old = Vec::new();
    for candidate in std::env::split_paths(&on_path)
        .map(|dir| dir.join("bitcoind"))
        .chain(cached())
    {
        if !candidate.is_file() {
            continue;
        }
        match version_of(&candidate) {
            Ok(version) if version >= MINIMUM_VERSION => return Ok(candidate),
            Ok(version) => old.push(format!("{} is version {version}", candidate.display())),
            Err(reason) => old.push(format!("{} {reason}", candidate.display())),
        }
    }
    let found = if old.is_empty() {
        String::new()
    } else {
        format!(" ({})", old.join("; "))
    };
    Err(Error::NoBitcoind(format!(
        "no bitcoind of version {MINIMUM_VERSION} (29.0) or newer found{found}. \
         Run scripts/bitcoind, which builds one into the cache, or set BITCOIND to one"
    )))
}

/// The version that an executable tells, as `getnetworkinfo` counts: 29.1 is 290100. Or what is wrong with it.
pub fn version_of(bitcoind: &Path) -> std::result::Result<u64, String> {
    // Even to print its version it would make, or write to, the user's own data folder.
    let output = Command::new(bitcoind)
        .arg(format!("-datadir={}", std::env::temp_dir().display()))
        .args(["-noconf", "-nosettings", "-version"])
        .output()
        .map_err(|e| format!("does not run: {e}"))?;
    parse_version(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
        format!(
            "does not tell its version (it ended with {})",
            output.status
        )
    })
}

fn cached() -> Option<PathBuf> {
    let cache = match std::env::var_os("TINDERBOX_CACHE").filter(|value| !value.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache/tinderbox"),
    };
    Some(cache.join("bitcoind/current/bin/bitcoind"))
}

/// Reads the first line of `bitcoind -version`, for example `Bitcoin Core daemon version v29.1.0 bitcoind`.
fn parse_version(text: &str) -> Option<u64> {
    let mut numbers = text
        .lines()
        .next()?
        .split_whitespace()
        .filter_map(|word| word.strip_prefix('v'));
    let version = numbers.find(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = version.split('.').map(|part| {
        let digits = part
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap_or_default();
        digits.parse::<u64>().ok()
    });
    let major = parts.next()??;
    let minor = parts.next().flatten().unwrap_or(0);
    let patch = parts.next().flatten().unwrap_or(0);
    Some(major * 10_000 + minor * 100 + patch)
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn version_lines_of_releases_and_builds_are_read() {
        for (line, expected) in [
            (
                "Bitcoin Core daemon version v29.1.0 bitcoind",
                Some(290_100),
            ),
            ("Bitcoin Core version v28.0.0", Some(280_000)),
            (
                "Bitcoin Core daemon version v31.99.0-unk bitcoind",
                Some(319_900),
            ),
            ("Bitcoin Core daemon version v30.2rc1", Some(300_200)),
            ("", None),
            ("not a node", None),
        ] {
            assert_eq!(parse_version(line), expected, "{line}");
        }
    }
}
