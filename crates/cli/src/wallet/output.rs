use anyhow::Result;
use serde::Serialize;

/// How results are shown: text for people, JSON for scripts.
#[derive(Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// Shows one result: as one line of JSON, or as `text` says.
    pub(super) fn show<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(value)?);
        } else {
            println!("{}", text());
        }
        Ok(())
    }
}

/// A table with aligned columns. Columns of numbers are set to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let numeric = |column: usize| {
        !rows.is_empty()
            && rows.iter().all(|row| {
                row.get(column).is_some_and(|cell| {
                    !cell.is_empty() && cell.bytes().all(|b| b.is_ascii_digit())
                })
            })
    };
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(head.get(column).map(|h| h.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.enumerate().map(|(column, cell)| {
            let width = width(column);
            if numeric(column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn numbers_are_set_to_the_right_and_words_to_the_left() {
        let rows = [
            vec!["a".to_owned(), "5".to_owned()],
            vec!["long".to_owned(), "1000".to_owned()],
        ];
        assert_eq!(
            table(&["name", "sats"], &rows),
            "name  sats\na        5\nlong  1000"
        );
    }

    #[test]
    fn an_empty_table_is_its_head() {
        assert_eq!(table(&["name", "sats"], &[]), "name  sats");
    }
}
