//! What can be wrong with an argument: names, definitions, questions and fixes, as data.
//!
//! ```
//! use minicrit_critic::taxonomy::Taxonomy;
//! let flaw = Taxonomy::builtin().find("sunk cost").expect("it is in the list");
//! assert_eq!(flaw.group, "cognitive bias");
//! ```

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One kind of flaw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flaw {
    /// The label: what models answer and files hold.
    pub name: String,
    /// The family that it belongs to.
    pub group: String,
    /// What it is.
    pub definition: String,
    /// A question that reveals it.
    pub question: String,
    /// What to do about it.
    pub fix: String,
}

/// A closed list of flaws.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taxonomy {
    #[serde(rename = "flaw")]
    flaws: Vec<Flaw>,
}

impl Taxonomy {
    /// The list that is part of the program.
    pub fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Taxonomy> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            toml::from_str(include_str!("../data/taxonomy.toml"))
                .expect("invariant: a test reads the built-in taxonomy")
        })
    }

    /// Every flaw, in the order of the list.
    pub fn flaws(&self) -> &[Flaw] {
        &self.flaws
    }

    /// The flaw of this name, whatever its case and whether it is written with spaces, `-` or `_`.
    pub fn find(&self, name: &str) -> Option<&Flaw> {
        let wanted = plain(name);
        self.flaws.iter().find(|it| plain(&it.name) == wanted)
    }

    /// As [`Taxonomy::find`].
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that there are.
    pub fn get(&self, name: &str) -> Result<&Flaw> {
        self.find(name).ok_or_else(|| Error::Unknown {
            what: "flaw",
            name: name.to_owned(),
            known: self.flaws.iter().map(|it| it.name.clone()).collect(),
        })
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphabetic).map(|it| it.to_ascii_lowercase()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_flaw_is_whole_and_has_a_name_of_its_own() {
        let flaws = Taxonomy::builtin().flaws();
        let names: BTreeSet<String> = flaws.iter().map(|it| plain(&it.name)).collect();
        let groups: BTreeSet<&str> = flaws.iter().map(|it| it.group.as_str()).collect();
        assert!(flaws.len() >= 16 && names.len() == flaws.len() && groups.len() >= 6);
        for flaw in flaws {
            assert!(flaw.question.ends_with('?'), "{}", flaw.name);
            assert!(flaw.definition.ends_with('.') && flaw.fix.ends_with('.'), "{}", flaw.name);
        }
    }

    #[test]
    fn names_are_found_in_every_spelling() {
        let find = |name| Taxonomy::builtin().find(name).map(|it| it.name.as_str());
        assert_eq!(find("Base_Rate Neglect"), Some("base-rate neglect"));
        assert_eq!(find("gamblers fallacy"), Some("gambler's fallacy"));
        assert_eq!(find("sample"), None);
        let error = Taxonomy::builtin().get("typo").unwrap_err();
        assert_eq!(error.to_string(), "there is no flaw `typo`");
    }
}
