//! models.toml to checked entries. Every problem is collected, with its line.

use std::{collections::BTreeMap, ops::Range};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::{Entry, Registry, RegistryError, RegistryProblem};

/// The only version of the schema so far.
const SCHEMA_VERSION: &str = "1";

/// An entry and where it stands in the text.
struct Placed {
    entry: Entry,
    span: Range<usize>,
}

/// Problems so far, with the text that gives their lines.
struct Problems<'a> {
    text: &'a str,
    found: Vec<RegistryProblem>,
    /// Names of models that could not be read: they exist, so naming them is no second mistake.
    unread: Vec<String>,
}

impl Problems<'_> {
    fn add(&mut self, span: Option<Range<usize>>, model: Option<&str>, what: String) {
        let line = span.map(|it| line_of(self.text, it.start));
        self.found.push(RegistryProblem { line, model: model.map(str::to_owned), what });
    }
}

/// Line, from 1, of a byte of the text.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// Reads entries, behind those of `base`, and the position of the default.
pub(super) fn read(
    text: &str,
    base: Option<&Registry>,
) -> Result<(Vec<Entry>, usize), RegistryError> {
    let known: &[Entry] = base.map_or(&[], |it| it.entries());
    let mut problems = Problems { text, found: Vec::new(), unread: Vec::new() };
    let (root, mistakes) = DeTable::parse_recoverable(text);
    for mistake in mistakes {
        problems.add(mistake.span(), None, mistake.message().to_owned());
    }
    // Text that is not TOML gives a table with holes: what it lacks would be reported wrongly.
    if !problems.found.is_empty() {
        return Err(RegistryError::Invalid { problems: problems.found });
    }

    let mut default_name = None;
    let mut version_seen = false;
    let mut placed = Vec::new();
    for (key, value) in root.into_inner() {
        match key.get_ref().as_ref() {
            "schema_version" => {
                version_seen = true;
                check_version(&value, &mut problems);
            }
            "default" => match value.get_ref().as_str() {
                Some(name) => default_name = Some((name.to_owned(), value.span())),
                None => problems.add(Some(value.span()), None, "`default` must be a name".into()),
            },
            "model" => placed = read_entries(value, &mut problems),
            other => problems.add(Some(key.span()), None, format!("unknown key `{other}`")),
        }
    }
    if !version_seen {
        problems.add(None, None, format!("`schema_version = {SCHEMA_VERSION}` is missing"));
    }
    check_entries(known, &placed, &mut problems);
    let default = match (default_name, base) {
        (None, Some(base)) => Some(base.default),
        (name, _) => find_default(name, known, &placed, &mut problems),
    };

    problems.found.sort_by_key(|it| it.line);
    match default {
        Some(default) if problems.found.is_empty() => {
            let added = placed.into_iter().map(|it| it.entry);
            Ok((known.iter().cloned().chain(added).collect(), default))
        }
        _ => Err(RegistryError::Invalid { problems: problems.found }),
    }
}

fn check_version(value: &Spanned<DeValue<'_>>, problems: &mut Problems<'_>) {
    let version = value.get_ref().as_integer().map(|it| it.as_str());
    if version != Some(SCHEMA_VERSION) {
        let what = format!("`schema_version` must be {SCHEMA_VERSION}");
        problems.add(Some(value.span()), None, what);
    }
}

/// Reads each `[[model]]` by itself, so that a mistake in one does not hide those in others.
fn read_entries(value: Spanned<DeValue<'_>>, problems: &mut Problems<'_>) -> Vec<Placed> {
    let span = value.span();
    let DeValue::Array(tables) = value.into_inner() else {
        problems.add(Some(span), None, "write each model as `[[model]]`".into());
        return Vec::new();
    };
    let mut placed = Vec::new();
    for table in tables {
        let span = table.span();
        let name = table.get_ref().get("name").and_then(|it| it.get_ref().as_str());
        let name = name.map(str::to_owned);
        match Entry::deserialize(ValueDeserializer::from(table)) {
            Ok(entry) => placed.push(Placed { entry, span }),
            Err(error) => {
                let at = error.span().unwrap_or(span);
                problems.add(Some(at), name.as_deref(), error.message().to_owned());
                problems.unread.extend(name);
            }
        }
    }
    placed
}

/// Checks what the types can't say.
fn check_entries(known: &[Entry], placed: &[Placed], problems: &mut Problems<'_>) {
    let mut owners: BTreeMap<String, &str> = known
        .iter()
        .flat_map(|entry| entry.names().map(|it| (it.to_lowercase(), entry.name.as_str())))
        .collect();
    for Placed { entry, span } in placed {
        let mut add = |what| problems.add(Some(span.clone()), Some(&entry.name), what);
        for name in entry.names() {
            if !is_plain_name(name) {
                add(format!("the name `{name}` may hold only letters, digits and `.:_-`"));
            }
            if let Some(owner) = owners.insert(name.to_lowercase(), &entry.name) {
                add(format!("the name `{name}` is taken by `{owner}`"));
            }
        }
        check_fields(entry, &mut add);
    }
    for Placed { entry, span } in placed {
        for target in &entry.draft_for {
            let is_known = all(known, placed).any(|it| it.name == *target);
            if !is_known && !problems.unread.contains(target) {
                let what = format!("`draft_for` names an unknown model `{target}`");
                problems.add(Some(span.clone()), Some(&entry.name), what);
            }
        }
    }
}

fn all<'a>(known: &'a [Entry], placed: &'a [Placed]) -> impl Iterator<Item = &'a Entry> {
    known.iter().chain(placed.iter().map(|it| &it.entry))
}

fn check_fields(entry: &Entry, add: &mut impl FnMut(String)) {
    if !entry.is_builtin() && !is_repository(&entry.repo) {
        add(format!("`repo` must be `organization/name` or `builtin`, got `{}`", entry.repo));
    }
    if let Some(revision) = &entry.revision {
        let is_commit = revision.len() == 40 && revision.bytes().all(|it| it.is_ascii_hexdigit());
        if !is_commit {
            add(format!("`revision` must be a commit of 40 hexadecimal digits, got `{revision}`"));
        }
    }
    for (key, text) in
        [("title", &entry.title), ("description", &entry.description), ("license", &entry.license)]
    {
        if text.trim().is_empty() {
            add(format!("`{key}` is empty"));
        }
    }
    if entry.params == Some(0) {
        add("`params` must not be 0".to_owned());
    }
    if entry.context == Some(0) {
        add("`context` must not be 0".to_owned());
    }
    if let Some(it) = entry.memory
        && [it.layers, it.kv_heads, it.head_dim, it.hidden, it.vocab].contains(&0)
    {
        add("no size in `memory` may be 0".to_owned());
    }
}

/// A name that can be typed in any shell without quotes and can't be mistaken for a path.
fn is_plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".:_-".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(allowed)
}

fn is_repository(repo: &str) -> bool {
    let mut parts = repo.split('/');
    let both = [parts.next(), parts.next()];
    parts.next().is_none()
        && both.into_iter().all(|it| it.is_some_and(|it| is_plain_name(it) && !it.contains(':')))
}

fn find_default(
    name: Option<(String, Range<usize>)>,
    known: &[Entry],
    placed: &[Placed],
    problems: &mut Problems<'_>,
) -> Option<usize> {
    let Some((name, span)) = name else {
        problems.add(None, None, "`default` is missing: name the model to use".into());
        return None;
    };
    let position = all(known, placed).position(|it| it.name == name);
    if position.is_none() && !problems.unread.contains(&name) {
        problems.add(Some(span), None, format!("`default` names an unknown model `{name}`"));
    }
    position
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "schema_version = 1\ndefault = \"a\"\n";
    const MODEL: &str = "[[model]]\nname = \"a\"\ntitle = \"A\"\ndescription = \"An A.\"\n\
                         repo = \"builtin\"\narchitecture = \"llama\"\nlicense = \"MIT\"\n";

    fn problems(text: &str) -> Vec<String> {
        match read(text, None) {
            Ok(_) => Vec::new(),
            Err(RegistryError::Invalid { problems }) => {
                problems.iter().map(RegistryProblem::to_string).collect()
            }
        }
    }

    /// A good text with one replacement has exactly this one problem.
    fn check(from: &str, to: &str, expect: &str) {
        let good = format!("{HEAD}{MODEL}");
        assert!(good.contains(from), "{from}");
        assert_eq!(problems(&good.replacen(from, to, 1)), [expect], "{to}");
    }

    #[test]
    fn a_minimal_registry_is_read() {
        let (entries, default) = read(&format!("{HEAD}{MODEL}"), None).expect("good");
        assert_eq!((entries[default].name.as_str(), entries.len()), ("a", 1));
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        check("schema_version = 1", "schema_version = 2", "line 1: `schema_version` must be 1");
        check("default = \"a\"", "default = \"b\"", "line 2: `default` names an unknown model `b`");
        check("default = \"a\"\n", "default = \"a\"\nz = 1\n", "line 3: unknown key `z`");
        check(
            "\"builtin\"",
            "\"./a\"",
            "line 3: `a`: `repo` must be `organization/name` or `builtin`, got `./a`",
        );
        check(
            "\"builtin\"",
            "\"a/b\"\nrevision = \"main\"",
            "line 3: `a`: `revision` must be a commit of 40 hexadecimal digits, got `main`",
        );
        check("\"MIT\"", "\"\"", "line 3: `a`: `license` is empty");
    }

    #[test]
    fn each_mistake_in_an_added_line_is_named() {
        let check = |line: &str, expect: &str| {
            let expect = format!("line 3: `a`: {expect}");
            assert_eq!(problems(&format!("{HEAD}{MODEL}{line}\n")), [expect], "{line}");
        };
        check("context = 0", "`context` must not be 0");
        check("params = 0", "`params` must not be 0");
        check("aliases = [\"A\"]", "the name `A` is taken by `a`");
        check("aliases = [\"../a\"]", "the name `../a` may hold only letters, digits and `.:_-`");
        check("draft_for = [\"c\"]", "`draft_for` names an unknown model `c`");
        let sizes = "layers = 0\nkv_heads = 1\nhead_dim = 1\nhidden = 1\nvocab = 1";
        check(&format!("[model.memory]\n{sizes}"), "no size in `memory` may be 0");
    }

    #[test]
    fn an_unknown_key_of_a_model_is_named() {
        let found = problems(&format!("{HEAD}{MODEL}x = 1\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("line 10: `a`: unknown field `x`, expected"), "{found:?}");
    }

    #[test]
    fn an_unknown_architecture_lists_the_known_ones() {
        let found = problems(&format!("{HEAD}{MODEL}").replace("\"llama\"", "\"mamba\""));
        assert!(found[0].starts_with("line 8: `a`: unknown variant `mamba`"), "{found:?}");
        assert!(found[0].contains("qwen3_moe"), "{found:?}");
    }

    #[test]
    fn all_problems_are_listed_in_order_of_lines() {
        let second = MODEL.replace("\"a\"", "\"b\"").replace("\"MIT\"", "7");
        let third = MODEL.replace("\"a\"", "\"c\"").replace("architecture = \"llama\"\n", "");
        let text = format!("schema_version = 9\n{MODEL}{second}{third}");
        let found = problems(&text);
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[0], "`default` is missing: name the model to use");
        assert!(found[1].starts_with("line 1: `schema_version`"), "{found:?}");
        assert!(found[2].starts_with("line 15: `b`: "), "{found:?}");
        assert!(found[3].starts_with("line 16: `c`: missing field `architecture`"), "{found:?}");
    }

    #[test]
    fn text_that_is_not_toml_gives_lines_and_no_panic() {
        let texts = ["= = =", "[[model]", "a = ", "\u{0}", "model = 1", "[model]\na = 1", ""];
        for text in texts {
            assert!(!problems(text).is_empty(), "{text:?}");
        }
        assert!(problems("a = 1\nb = \n")[0].starts_with("line 2: "));
    }

    #[test]
    fn two_models_can_not_share_a_name() {
        let text = format!("{HEAD}{MODEL}{MODEL}");
        assert_eq!(problems(&text), ["line 10: `a`: the name `a` is taken by `a`"]);
    }
}
