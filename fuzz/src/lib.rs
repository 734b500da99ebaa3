//! Parsers of outside bytes, as functions that must come back whatever they are given.
#![forbid(unsafe_code)]

pub mod seeds;
mod targets;

pub use targets::{TARGETS, Target};

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS
        .iter()
        .find(|(known, _, _)| *known == name)
        .map(|(_, _, target)| *target)
}
