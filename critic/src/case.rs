//! A rationale with its label, as files of cases hold it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, jsonl, taxonomy::Taxonomy};

/// Whether an argument holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It holds.
    Valid,
    /// It has a flaw.
    Flawed,
}

impl Verdict {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Flawed => "flawed",
        }
    }
}

/// A rationale and what is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// A name that is stable across runs.
    #[serde(default)]
    pub id: String,
    /// The argument.
    pub rationale: String,
    /// Whether it holds.
    pub label: Verdict,
    /// Which flaw it has, in the spelling of the taxonomy; none where it is valid.
    #[serde(default)]
    pub flaw_type: Option<String>,
    /// What a person who worked on the case decided, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<Verdict>,
    /// Its field, such as `trading`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Which kind of case it is, such as `subtle-flaw`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Why it is a hard case, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Case {
    /// Reads a file of one case a line. Cases without an id get `line-N`.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::BadLines`] with every line that is no case, has an empty
    /// rationale, a label that contradicts its flaw, a flaw outside of the taxonomy, or the id of
    /// an earlier line; [`Error::NoCases`].
    pub fn read(path: &Path, taxonomy: &Taxonomy) -> Result<Vec<Self>> {
        Self::checked(path, jsonl::read(path)?, taxonomy)
    }

    /// As [`Case::read`], from text that is called `origin`.
    pub fn parse(origin: &str, text: &str, taxonomy: &Taxonomy) -> Result<Vec<Self>> {
        let path = Path::new(origin);
        Self::checked(path, jsonl::parse(path, text.as_bytes())?, taxonomy)
    }

    fn checked(path: &Path, lines: Vec<(usize, Case)>, taxonomy: &Taxonomy) -> Result<Vec<Self>> {
        let mut problems = Vec::new();
        let mut cases = Vec::with_capacity(lines.len());
        let mut ids = std::collections::HashMap::new();
        let read = lines.len();
        for (line, mut case) in lines {
            if case.id.is_empty() {
                case.id = format!("line-{line}");
            }
            if let Err(what) = case.check(taxonomy) {
                problems.push(format!("line {line}: {what}"));
            } else if let Some(first) = ids.insert(case.id.clone(), line) {
                problems
                    .push(format!("line {line}: id `{}` is also that of line {first}", case.id));
            }
            cases.push(case);
        }
        if !problems.is_empty() {
            return Err(Error::BadLines { path: path.to_path_buf(), read, problems });
        }
        if cases.is_empty() {
            return Err(Error::NoCases { origin: path.display().to_string() });
        }
        Ok(cases)
    }

    /// Brings the flaw into the taxonomy's spelling; says what is wrong if something is.
    fn check(&mut self, taxonomy: &Taxonomy) -> std::result::Result<(), String> {
        if self.rationale.trim().is_empty() {
            return Err("`rationale` is empty".into());
        }
        if self.flaw_type.as_deref().is_some_and(|it| it.is_empty() || it == "none") {
            self.flaw_type = None;
        }
        match (self.label, &self.flaw_type) {
            (Verdict::Valid, Some(flaw)) => Err(format!("it is valid and has the flaw `{flaw}`")),
            (Verdict::Flawed, None) => Err("it is flawed without a `flaw_type`".into()),
            (Verdict::Valid, None) => Ok(()),
            (Verdict::Flawed, Some(flaw)) => match taxonomy.find(flaw) {
                Some(found) => {
                    self.flaw_type = Some(found.name.clone());
                    Ok(())
                }
                None => Err(format!("`flaw_type` is `{flaw}`, which is not in the taxonomy")),
            },
        }
    }
}

/// That both labels occur, without which rates mean nothing.
///
/// # Errors
/// [`Error::NoCases`], [`Error::OneClass`].
pub fn both_labels(origin: &str, cases: &[Case]) -> Result<()> {
    let Some(first) = cases.first() else {
        return Err(Error::NoCases { origin: origin.to_owned() });
    };
    if cases.iter().all(|it| it.label == first.label) {
        let (count, label) = (cases.len(), first.label.as_str());
        return Err(Error::OneClass { origin: origin.to_owned(), count, label });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_bad_lines_are_told_with_their_numbers() {
        let text = r#"{"rationale": "a", "label": "valid"}
{"rationale": "", "label": "valid"}

{"rationale": "b", "label": "flawed", "flaw_type": "Sunk-Cost"}
{"rationale": "c", "label": "flawed", "flaw_type": "bad luck"}
{"rationale": "d", "label": "flawed"}
{"id": "line-1", "rationale": "e", "label": "valid"}"#;
        let error = Case::parse("x", text, Taxonomy::builtin()).unwrap_err().to_string();
        for part in ["4 of 6 lines", "line 2: ", "line 5: ", "line 6: ", "also that of line 1"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = Case::parse("x", "{\"a\": 1}\n{", Taxonomy::builtin()).unwrap_err();
        assert!(error.to_string().contains("line 2, column"), "{error}");
        assert!(Case::parse("x", "\n\n", Taxonomy::builtin()).is_err());
    }

    #[test]
    fn flaws_come_out_in_the_spelling_of_the_taxonomy() {
        let text = "\u{feff}{\"rationale\": \"b\", \"label\": \"flawed\", \"flaw_type\": \"Sunk_Cost\", \"other\": 3}";
        let cases = Case::parse("x", text, Taxonomy::builtin()).unwrap();
        assert_eq!(cases[0].flaw_type.as_deref(), Some("sunk cost"));
        assert!(both_labels("x", &cases).unwrap_err().to_string().contains("all 1 cases"));
    }
}
