//! The shape of the workspace: who may depend on whom, what pure crates must not do, and how long
//! a file may be. `docs/architecture.md` gives the reasons.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates, lowest first. A crate may depend only on crates to the left of it. `lightning` and `ssp`
/// are planned; their places are kept.
const LAYERS: [&str; 14] = [
    "frost",
    "protocol",
    "flows",
    "commit",
    "rpc",
    "store",
    "chain",
    "signer",
    "operator",
    "wallet",
    "lightning",
    "ssp",
    "devnet",
    "cli",
];
/// For tests only: may use everything, and nobody may be built on it.
const TESTKIT: &str = "testkit";
/// Crates without input or output.
const PURE: [&str; 4] = ["frost", "protocol", "flows", "commit"];
/// What their `lib.rs` must deny.
const DENIED: [&str; 5] = [
    "clippy::unwrap_used",
    "clippy::expect_used",
    "clippy::indexing_slicing",
    "clippy::arithmetic_side_effects",
    "clippy::as_conversions",
];
/// How a pure crate would get at the outside world.
const OUTSIDE: [&str; 9] = [
    "std::net",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "OsRng",
];
/// Lines of one file at most, tests apart.
const LONGEST: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/testkit is two folders below the root")
        .to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Manifests of all crates, by folder name.
fn manifests() -> BTreeMap<String, toml::Table> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root().join("crates")).expect("crates/ is there") {
        let path = entry.expect("crates/ is readable").path();
        let manifest = path.join("Cargo.toml");
        if !manifest.exists() {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.expect("names of crates are UTF-8").to_owned();
        let table = read(&manifest)
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
        found.insert(name, table);
    }
    found
}

/// Our own crates, by folder name, among what is needed to build a crate: `[dependencies]` and
/// `[build-dependencies]`, also those of single targets.
fn own_dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    tables
        .iter()
        .flat_map(|table| ["dependencies", "build-dependencies"].map(|kind| table.get(kind)))
        .flatten()
        .filter_map(toml::Value::as_table)
        .flatten()
        .filter_map(|(name, spec)| {
            // A renamed dependency says its real name.
            let package = spec.get("package").and_then(toml::Value::as_str);
            package.unwrap_or(name).strip_prefix("tinderbox-")
        })
        .map(str::to_owned)
        .collect()
}

/// What is wrong with the dependencies of crate `name`.
fn wrong_dependencies(name: &str, manifest: &toml::Table) -> Vec<String> {
    let place = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let own = place(name);
    if own.is_none() && name != TESTKIT {
        return vec![format!("{name} has no place among the layers: give it one")];
    }
    own_dependencies(manifest)
        .iter()
        .filter(|lower| match (own, place(lower)) {
            (Some(own), Some(lower)) => lower >= own,
            (None, Some(_)) => false,
            (_, None) => true,
        })
        .map(|lower| format!("{name} depends on {lower}, which is not below it"))
        .collect()
}

#[test]
fn crates_depend_only_on_lower_ones() {
    let manifests = manifests();
    for needed in PURE.iter().chain(&["operator", "wallet", "cli", TESTKIT]) {
        assert!(manifests.contains_key(*needed), "crates/{needed} is gone");
    }
    let wrong: Vec<String> = manifests
        .iter()
        .flat_map(|(name, manifest)| wrong_dependencies(name, manifest))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_form_of_an_upward_dependency_is_found() {
    let refused = [
        (
            "frost",
            "[dependencies]\ntinderbox-protocol.workspace = true",
        ),
        (
            "flows",
            "[dependencies]\ntinderbox-flows = { path = \".\" }",
        ),
        (
            "store",
            "[build-dependencies]\ntinderbox-wallet.workspace = true",
        ),
        (
            "rpc",
            "[dependencies]\nours = { package = \"tinderbox-cli\", path = \"..\" }",
        ),
        (
            "chain",
            "[target.'cfg(unix)'.dependencies]\ntinderbox-signer.workspace = true",
        ),
        ("cli", "[dependencies]\ntinderbox-testkit.workspace = true"),
        ("newcomer", "[dependencies]"),
    ];
    for (name, text) in refused {
        let manifest = text.parse().unwrap();
        assert_eq!(
            wrong_dependencies(name, &manifest).len(),
            1,
            "{name}: {text}"
        );
    }
    let allowed = [
        (
            "cli",
            "[dependencies]\ntinderbox-devnet.workspace = true\nclap = \"4\"",
        ),
        (
            "operator",
            "[dev-dependencies]\ntinderbox-testkit.workspace = true",
        ),
        (
            "testkit",
            "[dependencies]\ntinderbox-operator.workspace = true",
        ),
    ];
    for (name, text) in allowed {
        let manifest = text.parse().unwrap();
        assert_eq!(wrong_dependencies(name, &manifest), Vec::<String>::new());
    }
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate() {
    let workspace: toml::Table = read(&root().join("Cargo.toml")).parse().unwrap();
    assert_eq!(
        workspace["workspace"]["lints"]["rust"]["unsafe_code"].as_str(),
        Some("forbid")
    );
    for (name, manifest) in manifests() {
        let inherits = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool);
        assert_eq!(
            inherits,
            Some(true),
            "crates/{name} must have [lints] workspace = true"
        );
    }
}

#[test]
fn pure_crates_deny_what_can_panic_or_overflow() {
    for name in PURE {
        let text = read(&root().join("crates").join(name).join("src/lib.rs"));
        let start = text
            .find("#![cfg_attr(")
            .unwrap_or_else(|| panic!("crates/{name}/src/lib.rs has no list of denied lints"));
        let list = &text[start..];
        let list = &list[..list.find(")]").expect("the attribute ends")];
        let compact: String = list.split_whitespace().collect();
        assert!(
            compact.starts_with("#![cfg_attr(not(test),deny("),
            "crates/{name}: {compact}"
        );
        for lint in DENIED {
            assert!(
                list.contains(lint),
                "crates/{name}/src/lib.rs must deny {lint}"
            );
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("sources are readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn sources_of(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources(&root().join("crates").join(name).join("src"), &mut found);
    assert!(!found.is_empty(), "crates/{name}/src has no sources");
    found
}

/// A file up to the tests at its end.
fn without_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests {")
        .and_then(|end| text.get(..end))
        .unwrap_or(text)
}

#[test]
fn pure_crates_touch_no_clock_socket_disk_or_thread() {
    let mut wrong = Vec::new();
    for name in PURE {
        for path in sources_of(name) {
            let text = read(&path);
            for (number, line) in (1..).zip(without_tests(&text).lines()) {
                // Doc examples may draw random numbers.
                if line.trim_start().starts_with("//") {
                    continue;
                }
                wrong.extend(
                    OUTSIDE
                        .iter()
                        .filter(|word| line.contains(**word))
                        .map(|word| format!("{}:{number} uses {word}", path.display())),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file that no module names is not compiled, and nobody notices what it would have done.
#[test]
fn every_source_file_is_a_module_of_its_crate() {
    let mut left_out = Vec::new();
    for name in manifests().keys() {
        for path in sources_of(name) {
            let (Some(folder), Some(stem)) = (path.parent(), path.file_stem()) else {
                continue;
            };
            let stem = stem.to_string_lossy();
            let (module, above) = match stem.as_ref() {
                "lib" | "main" => continue,
                // `a/mod.rs` is named beside `a`, anything else beside itself or in `folder.rs`.
                "mod" => (folder.file_name(), folder.parent()),
                _ => (path.file_stem(), Some(folder)),
            };
            let (Some(module), Some(above)) = (module, above) else {
                continue;
            };
            if above.ends_with("src/bin") {
                continue;
            }
            let line = format!("mod {};", module.to_string_lossy());
            let named = ["mod.rs", "lib.rs", "main.rs"]
                .map(|file| above.join(file))
                .into_iter()
                .chain([above.with_extension("rs")])
                .filter(|file| file.exists())
                .any(|file| {
                    let text = read(&file);
                    let mut lines = text.lines().map(str::trim);
                    lines.any(|found| found == line || found.ends_with(&format!(" {line}")))
                });
            if !named {
                left_out.push(path.display().to_string());
            }
        }
    }
    assert!(
        left_out.is_empty(),
        "no module names these files:\n{}",
        left_out.join("\n")
    );
}

#[test]
fn no_source_file_is_longer_than_a_person_reads_at_once() {
    let mut long = Vec::new();
    for name in manifests().keys() {
        for path in sources_of(name) {
            let tests = path.components().any(|part| {
                matches!(
                    part.as_os_str().to_str(),
                    Some("tests.rs" | "tests" | "testing")
                )
            });
            let lines = without_tests(&read(&path)).lines().count();
            if !tests && lines > LONGEST {
                long.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    assert!(
        long.is_empty(),
        "split these along their concepts (at most {LONGEST} lines, tests apart):\n{}",
        long.join("\n")
    );
}
