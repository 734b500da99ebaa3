//! Looks at an operator from outside and says what to do: configuration, files, database, signer,
//! node, the other operators, key shares, disk, certificate.
//!
//! It changes nothing, with one exception: a database that no process uses is opened as a start
//! would open it, which brings its schema up to date.

mod files;
mod node;
mod peers;
mod report;
mod rows;
mod running;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::config::{Config, ConfigError};

pub use report::{Finding, Level, Report};

/// Looks at everything that the configuration at `path` names.
pub async fn examine(path: &Path) -> Report {
    let mut report = Report::default();
    let Some(config) = configuration(path, &mut report) else {
        return report;
    };
    files::examine(path, &config, &mut report);
    let identity = files::identity(&config, &mut report);
    let running = running::examine(&config, &mut report).await;
    rows::examine(&config, running, &mut report).await;
    let tip = node::examine(&config, &mut report).await;
    running::examine_lag(&config, running, tip, &mut report).await;
    peers::examine(&config, identity, &mut report).await;
    report
}

fn configuration(path: &Path, report: &mut Report) -> Option<Config> {
    match Config::load(path) {
        Ok(config) => {
            report.good(
                "configuration",
                format!(
                    "{}: operator {} of {} on {}",
                    path.display(),
                    config.me.0,
                    config.operators.len(),
                    config.network
                ),
            );
            Some(config)
        }
        Err(ConfigError::Bad(values)) => {
            for value in values {
                report.bad("configuration", value, "correct it in the file");
            }
            None
        }
        Err(error) => {
            report.bad(
                "configuration",
                error.to_string(),
                "give the operator's TOML file with --config",
            );
            None
        }
    }
}
