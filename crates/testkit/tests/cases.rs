//! `docs/cases.md` names tests that exist, and every case that this release answers for has one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Cases that must have a test.
const ANSWERED: [&str; 43] = [
    "14", "15", "16", "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29",
    "30", "31", "32", "33", "34", "35", "36", "37", "38", "40", "41a", "41b", "41c", "52", "53",
    "54", "55", "56", "57", "58", "59", "60", "64", "65", "66", "67", "68",
];

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("two folders up").to_owned()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Names of all functions in the sources.
fn functions() -> BTreeSet<String> {
    let mut files = Vec::new();
    rust_files(&root().join("crates"), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        for line in text.lines() {
            let Some((_, rest)) = line.split_once("fn ") else {
                continue;
            };
            let name: String = rest
                .chars()
                .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
                .collect();
            names.insert(name);
        }
    }
    names
}

/// The tests of each case in the document.
fn table() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join("docs/cases.md")).expect("docs/cases.md");
    let mut table = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [case, _, tests] = cells[..] else {
            panic!("a row has not three cells: {line}");
        };
        if !case.starts_with(|letter: char| letter.is_ascii_digit()) {
            continue;
        }
        let names: Vec<String> = tests
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        let twice = table.insert(case.to_owned(), names);
        assert!(twice.is_none(), "case {case} has two rows");
    }
    table
}

#[test]
fn every_test_that_the_table_of_cases_names_exists() {
    let functions = functions();
    assert!(functions.contains("every_test_that_the_table_of_cases_names_exists"));
    for (case, tests) in table() {
        assert!(!tests.is_empty(), "case {case} has no test");
        for test in tests {
            assert!(
                functions.contains(&test),
                "case {case}: no test is named {test}"
            );
        }
    }
}

#[test]
fn every_case_that_is_answered_for_has_a_row() {
    let table = table();
    for case in ANSWERED {
        assert!(
            table.contains_key(case),
            "docs/cases.md says nothing of case {case}"
        );
    }
}
