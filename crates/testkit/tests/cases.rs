//! `docs/cases.md` names tests that exist, and every case that this release answers for has one, by
//! its number.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Cases that must have a test.
const ANSWERED: [&str; 51] = [
    "14", "15", "16", "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29",
    "30", "31", "32", "33", "34", "35", "36", "37", "38", "39", "40", "41", "41a", "41b", "41c",
    "42", "43", "46", "47", "49", "50", "52", "53", "54", "55", "56", "57", "58", "59", "60", "64",
    "65", "66", "67", "68",
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

/// All functions in the sources by name, with their descriptions.
fn functions() -> BTreeMap<String, String> {
    let mut files = Vec::new();
    rust_files(&root().join("crates"), &mut files);
    let mut found = BTreeMap::<String, String>::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        let mut description = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(said) = line.strip_prefix("///") {
                description.push_str(said);
            } else if let Some((_, rest)) = line.split_once("fn ") {
                let name: String = rest
                    .chars()
                    .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
                    .collect();
                let said = std::mem::take(&mut description);
                found.entry(name).or_default().push_str(&said);
            } else if !line.starts_with("#[") {
                description.clear();
            }
        }
    }
    found
}

/// True if a test has the number of a case in its name, or in its description after the word "case".
fn carries(case: &str, test: &str, description: &str) -> bool {
    let mut words = description.split(|letter: char| !letter.is_ascii_alphanumeric());
    let is_word = |word: &str| ["case", "cases"].contains(&word.to_lowercase().as_str());
    test.starts_with(&format!("case_{case}_"))
        || words.any(is_word) && words.any(|word| word == case)
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
    assert!(functions.contains_key("every_test_that_the_table_of_cases_names_exists"));
    for (case, tests) in table() {
        assert!(!tests.is_empty(), "case {case} has no test");
        for test in tests {
            assert!(
                functions.contains_key(&test),
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

#[test]
fn every_case_has_a_test_that_carries_its_number() {
    assert!(carries("14", "case_14_once", ""));
    assert!(carries("28", "once", " Case 27 and 28: whoever dies."));
    assert!(!carries("28", "once", " Of 28 leaves one."));
    assert!(!carries("41", "case_41a_once", " Case 41a: a lie."));
    let functions = functions();
    let bare: Vec<String> = table()
        .into_iter()
        .filter(|(case, tests)| {
            let carry = |test: &String| carries(case, test, &functions[test]);
            !tests.iter().any(carry)
        })
        .map(|(case, _)| case)
        .collect();
    assert!(bare.is_empty(), "no test carries the number of {bare:?}");
}
