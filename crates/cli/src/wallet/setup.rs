use std::io::{self, BufRead as _, IsTerminal as _};

use anyhow::{Context, Result};
use serde_json::json;
use tinderbox_protocol::SparkAddress;
use tinderbox_wallet::{MemorySigner, WalletSigner, new_words};

use super::folder::Folder;
use super::output::Output;

/// Makes a new wallet.
pub(super) fn create(folder: &Folder, output: Output) -> Result<()> {
    let words = new_words()?;
    let address = keep(folder, &words)?;
    let result = json!({ "address": address, "words": words.as_str(), "folder": folder.path() });
    output.show(&result, || {
        format!(
            "A new wallet on network {}.\n\nWrite these words down, in this order, and keep them where nobody finds \
             them.\nWhoever has them has the money:\n\n  {}\n\nThey are also in {}, readable by you alone.\n\
             Your address: {address}",
            folder.network(),
            words.as_str(),
            folder.path().display()
        )
    })
}

/// Makes a wallet from words on standard input.
pub(super) fn restore(folder: &Folder, output: Output) -> Result<()> {
    if io::stdin().is_terminal() && !output.is_json() {
        eprintln!("Enter the words, separated by spaces, and press Enter:");
    }
    let mut words = zeroize::Zeroizing::new(String::new());
    io::stdin()
        .lock()
        .read_line(&mut words)
        .context("the words cannot be read from standard input")?;
    let address = keep(folder, &words)?;
    output.show(
        &json!({ "address": address, "folder": folder.path() }),
        || {
            format!(
                "The wallet is restored in {}.\nYour address: {address}",
                folder.path().display()
            )
        },
    )
}

/// Shows the address.
pub(super) fn address(folder: &Folder, output: Output) -> Result<()> {
    let address = folder.open()?.address().to_string();
    output.show(&json!({ "address": address }), || address.clone())
}

fn keep(folder: &Folder, words: &str) -> Result<String> {
    let account = folder.config()?.account;
    let signer = MemorySigner::from_words(words, folder.network(), account)?;
    folder.keep_words(words)?;
    Ok(SparkAddress::new(folder.network(), signer.identity()).to_string())
}
