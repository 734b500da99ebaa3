//! Runs one target: `TINDERBOX_FUZZ_TARGET` names it. With `TINDERBOX_FUZZ_SEEDS` set to a folder it
//! writes the inputs to begin with there instead; with the target `list` it lists the targets.
#![no_main]

use std::sync::OnceLock;

use tinderbox_fuzz::{TARGETS, Target, seeds, target};

static CHOSEN: OnceLock<Target> = OnceLock::new();

fn choose() {
    let name = std::env::var("TINDERBOX_FUZZ_TARGET").unwrap_or_default();
    if name == "list" {
        for (name, what, _) in TARGETS {
            println!("{name}\t{what}");
        }
        std::process::exit(0);
    }
    let Some(chosen) = target(&name) else {
        eprintln!("TINDERBOX_FUZZ_TARGET is {name:?}: no such target");
        std::process::exit(2);
    };
    if let Ok(folder) = std::env::var("TINDERBOX_FUZZ_SEEDS") {
        if let Err(error) = seeds::write(&name, folder.as_ref()) {
            eprintln!("{folder}: {error}");
            std::process::exit(2);
        }
        std::process::exit(0);
    }
    let _ = CHOSEN.set(chosen);
}

libfuzzer_sys::fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(target) = CHOSEN.get() {
        target(data);
    }
});
