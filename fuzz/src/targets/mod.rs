//! The targets, by name.

mod agreement;
mod config;
mod frost;
mod node;
mod packages;
mod rows;
mod session;
mod text;
mod transactions;
mod wallet;
mod wire;

/// Takes any bytes and comes back.
pub type Target = fn(&[u8]);

/// Every target: name, what it parses, function.
pub const TARGETS: [(&str, &str, Target); 11] = [
    (
        "wire",
        "requests of wallets and providers, checked and converted",
        wire::run,
    ),
    (
        "text",
        "addresses, invoices, Lightning invoices, ids, words",
        text::run,
    ),
    (
        "transactions",
        "transactions as parsed and compared",
        transactions::run,
    ),
    (
        "packages",
        "encrypted key tweaks and what is inside",
        packages::run,
    ),
    (
        "agreement",
        "messages between operators, requests of flows",
        agreement::run,
    ),
    ("rows", "bodies of stored rows", rows::run),
    (
        "config",
        "configurations of operators and wallets",
        config::run,
    ),
    ("wallet", "exit bundles and stored exits", wallet::run),
    ("node", "answers of a Bitcoin node", node::run),
    (
        "session",
        "session tokens, challenges, headers",
        session::run,
    ),
    (
        "frost",
        "commitments, shares, packages of key generation",
        frost::run,
    ),
];

/// The byte that chooses among a target's parsers, and the rest.
fn chosen(data: &[u8]) -> Option<(usize, &[u8])> {
    let (choice, rest) = data.split_first()?;
    Some((usize::from(*choice), rest))
}
