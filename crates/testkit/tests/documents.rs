//! What the documents say exists does exist: links, paths, commands.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/testkit is two folders below the root")
        .to_owned()
}

fn markdown_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect()
}

/// Every document, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let root = root();
    let mut paths = markdown_in(&root);
    paths.extend(markdown_in(&root.join("docs")));
    paths.push(root.join("conformance/README.md"));
    for entry in fs::read_dir(root.join("crates")).expect("crates/ is there") {
        let path = entry.expect("readable").path();
        if path.join("Cargo.toml").exists() {
            paths.push(path.join("README.md"));
        }
    }
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path, text)
        })
        .collect()
}

/// Everything between `open` and `close`, within one line.
fn between<'a>(text: &'a str, open: &str, close: char) -> Vec<&'a str> {
    text.lines()
        .flat_map(|line| {
            line.split(open)
                .skip(1)
                .filter_map(|rest| rest.split_once(close).map(|(inside, _)| inside))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_crate_has_a_page_and_every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut links = 0;
    for (path, text) in documents() {
        let folder = path.parent().expect("documents are in folders");
        for link in between(&text, "](", ')') {
            let file = link.split('#').next().unwrap_or_default();
            if link.contains("://") || file.is_empty() {
                continue;
            }
            links += 1;
            if !folder.join(file).exists() {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(links > 0, "no document has a link: the search is wrong");
}

/// Paths in backquotes from the root, such as `crates/flows/src/send.rs`.
#[test]
fn every_path_that_a_document_names_exists() {
    const FOLDERS: [&str; 5] = ["crates/", "docs/", "scripts/", "conformance/", ".ci/"];
    let root = root();
    let mut missing = Vec::new();
    let mut named = 0;
    for (path, text) in documents() {
        for (place, inside) in text.split('`').enumerate() {
            // Every second piece is inside backquotes; arguments of a command do not count.
            let word = inside.split_whitespace().next().unwrap_or_default();
            let is_path = FOLDERS.iter().any(|folder| word.starts_with(folder));
            if place % 2 == 0 || !is_path || word.contains(['*', '{', '<', '…']) {
                continue;
            }
            named += 1;
            if !root.join(word).exists() {
                missing.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(named > 0, "no document names a path: the search is wrong");
}

/// Shell blocks of the README, each with the name in the comment before it.
fn shell_blocks(readme: &str) -> Vec<(Option<&str>, Vec<&str>)> {
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let name = before
                .strip_prefix("<!-- run: ")
                .and_then(|rest| rest.strip_suffix(" -->"));
            let block = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((name, block));
        }
        before = line;
    }
    blocks
}

#[test]
fn every_shell_block_of_the_readme_is_named_so_that_ci_runs_it() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = shell_blocks(&readme);
    assert!(!blocks.is_empty(), "the README shows no command");
    let mut names = BTreeSet::new();
    for (name, block) in blocks {
        let name = name.unwrap_or_else(|| panic!("a block has no name: {block:?}"));
        assert!(names.insert(name), "two blocks are named {name}");
        assert!(!block.is_empty(), "block {name} is empty");
    }
    let runner = fs::read_to_string(root().join("scripts/readme")).unwrap();
    let listed = runner
        .lines()
        .find_map(|line| line.strip_prefix("BLOCKS=("))
        .and_then(|rest| rest.strip_suffix(')'))
        .expect("scripts/readme lists the blocks");
    let listed: BTreeSet<&str> = listed.split_whitespace().collect();
    assert_eq!(names, listed, "README.md and scripts/readme differ");
}

#[test]
fn every_make_target_that_a_document_names_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(": ##").map(|(name, _)| name))
        .collect();
    assert!(targets.contains("up"), "{targets:?}");
    for (path, text) in documents() {
        for command in between(&text, "`make ", '`') {
            let target = command.split_whitespace().next().unwrap_or_default();
            assert!(
                targets.contains(target),
                "{}: make {target}",
                path.display()
            );
        }
    }
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let reasons = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let mut used = BTreeSet::new();
    for entry in fs::read_dir(root().join("crates")).expect("crates/ is there") {
        let manifest = entry.expect("readable").path().join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&manifest) else {
            continue;
        };
        let table: toml::Table = text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = table.get(kind).and_then(toml::Value::as_table);
            used.extend(names.into_iter().flat_map(toml::Table::keys).cloned());
        }
    }
    assert!(used.contains("bitcoin"), "{used:?}");
    let silent: Vec<&String> = used
        .iter()
        .filter(|name| !name.starts_with("tinderbox") && !reasons.contains(&format!("`{name}`")))
        .collect();
    assert!(
        silent.is_empty(),
        "docs/dependencies.md says nothing of {silent:?}"
    );
}
