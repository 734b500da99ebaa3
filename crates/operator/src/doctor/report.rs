//! What was found, and what to do about it.

use serde::Serialize;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// It works, but not for long, or not as safely as it could.
    Warning,
    /// The operator does not start, or does not serve, or endangers what it keeps.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub about: String,
    /// How it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty if nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order in which things were looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Everything is well with `about`.
    pub fn good(&mut self, about: &str, found: impl Into<String>) {
        self.add(about, Level::Good, found, "");
    }

    /// `about` wants looking after.
    pub fn warning(&mut self, about: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(about, Level::Warning, found, advice);
    }

    /// Something is wrong with `about`.
    pub fn bad(&mut self, about: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(about, Level::Bad, found, advice);
    }

    fn add(
        &mut self,
        about: &str,
        level: Level,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.findings.push(Finding {
            about: about.to_owned(),
            level,
            found: found.into(),
            advice: advice.into(),
        });
    }

    /// The worst of all.
    #[must_use]
    pub fn worst(&self) -> Level {
        self.findings
            .iter()
            .map(|finding| finding.level)
            .max()
            .unwrap_or(Level::Good)
    }

    /// 0 if all is well, 1 with warnings, 2 if something is wrong.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.worst() {
            Level::Good => 0,
            Level::Warning => 1,
            Level::Bad => 2,
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for finding in &self.findings {
            let mark = match finding.level {
                Level::Good => "ok     ",
                Level::Warning => "warning",
                Level::Bad => "BAD    ",
            };
            writeln!(f, "{mark}  {:<16} {}", finding.about, finding.found)?;
            if !finding.advice.is_empty() {
                writeln!(f, "{:24} → {}", ' ', finding.advice)?;
            }
        }
        Ok(())
    }
}
