//! What a file of rows consists of.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rows::Rows;
use crate::eval::escape;

/// Columns that are counted where rows have them.
const COLUMNS: [&str; 6] = ["label", "flaw_type", "type", "domain", "difficulty", "genre"];

/// Upper ends of the classes of lengths, in words.
const CLASSES: [usize; 8] = [10, 20, 40, 80, 160, 320, 640, usize::MAX];

/// Counts of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Rows.
    pub rows: usize,
    /// Rows that repeat an earlier one word for word.
    pub duplicates: usize,
    /// Rows that nearly repeat an earlier one.
    pub near_duplicates: usize,
    /// Words of the shortest, the middle and the longest text.
    pub words: [usize; 3],
    /// Number of texts by their length: up to so many words.
    pub lengths: Vec<(String, usize)>,
    /// For each column that occurs: its values and how many rows have each.
    pub columns: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Stats {
    /// Counts.
    pub fn of(rows: &Rows) -> Self {
        let (_, duplicates, near_duplicates) = rows.unique(0.8);
        let mut words: Vec<usize> =
            rows.texts().iter().map(|it| it.split_whitespace().count()).collect();
        words.sort_unstable();
        let mut columns: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for row in rows.values() {
            for column in COLUMNS {
                if let Some(value) = row.get(column).and_then(|it| it.as_str()) {
                    *columns.entry(column.into()).or_default().entry(value.into()).or_default() +=
                        1;
                }
            }
        }
        let mut lower = 0;
        let lengths = CLASSES.map(|upper| {
            let count = words.iter().filter(|it| (lower..upper).contains(*it)).count();
            let name = match upper {
                usize::MAX => format!("{lower} or more"),
                _ => format!("{lower} to {}", upper - 1),
            };
            lower = upper;
            (name, count)
        });
        let rank = |share: f64| words[((words.len() - 1) as f64 * share) as usize];
        Self {
            rows: words.len(),
            duplicates,
            near_duplicates,
            words: [rank(0.0), rank(0.5), rank(1.0)],
            lengths: lengths.to_vec(),
            columns,
        }
    }
}

/// Height of a line of the picture, in pixels.
const LINE: usize = 22;

impl Stats {
    /// The counts as bars, one picture without anything from elsewhere.
    pub fn to_svg(&self) -> String {
        let mut groups: Vec<(&str, Vec<(&str, usize)>)> = vec![(
            "words in a text",
            self.lengths.iter().filter(|it| it.1 > 0).map(|it| (it.0.as_str(), it.1)).collect(),
        )];
        for (column, values) in &self.columns {
            groups.push((column, values.iter().map(|(name, &n)| (name.as_str(), n)).collect()));
        }
        let lines: usize = groups.iter().map(|it| it.1.len() + 2).sum();
        let height = lines * LINE + 10;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 {height}\" font-family=\"system-ui,sans-serif\" font-size=\"13\"><rect width=\"640\" height=\"{height}\" fill=\"#fff\"/>"
        );
        let mut y = LINE;
        for (title, counts) in groups {
            out += &format!(
                "<text x=\"12\" y=\"{y}\" font-weight=\"600\" fill=\"#222\">{}</text>",
                escape(title)
            );
            y += LINE;
            let most = counts.iter().map(|it| it.1).max().unwrap_or(1).max(1);
            for (name, count) in counts {
                let width = 340 * count / most;
                out += &format!(
                    "<text x=\"200\" y=\"{y}\" text-anchor=\"end\" fill=\"#444\">{}</text><rect x=\"210\" y=\"{}\" width=\"{width}\" height=\"14\" rx=\"2\" fill=\"#0f766e\"/><text x=\"{}\" y=\"{y}\" fill=\"#444\">{count}</text>",
                    escape(name),
                    y - 12,
                    216 + width
                );
                y += LINE;
            }
            y += LINE;
        }
        out + "</svg>\n"
    }
}
