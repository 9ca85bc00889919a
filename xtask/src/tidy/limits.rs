//! Numbers that only a commit with a reason may raise: tidy.toml.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use super::{Problem, source::SourceFile};

/// The contents of tidy.toml.
#[derive(Debug)]
pub struct Limits {
    /// Most lines of a file, tests not counted.
    file_lines: usize,
    /// Most packages in Cargo.lock that are not ours.
    dependencies: usize,
    /// Files that may be longer, each with its own limit.
    long_files: BTreeMap<String, usize>,
}

impl Limits {
    /// Reads tidy.toml strictly: an unknown or missing key is an error.
    pub fn parse(text: &str) -> Result<Self> {
        let mut table: Table = text.parse().context("tidy.toml is not TOML")?;
        let limits = Self {
            file_lines: number("file_lines", table.remove("file_lines"))?,
            dependencies: number("dependencies", table.remove("dependencies"))?,
            long_files: match table.remove("long_files") {
                None => BTreeMap::new(),
                Some(Value::Table(files)) => files
                    .into_iter()
                    .map(|(path, lines)| Ok((path.clone(), number(&path, Some(lines))?)))
                    .collect::<Result<_>>()?,
                Some(_) => bail!("`long_files` in tidy.toml must be a table of path = lines"),
            },
        };
        if let Some(key) = table.keys().next() {
            bail!("tidy.toml has an unknown key `{key}`");
        }
        Ok(limits)
    }
}

fn number(key: &str, value: Option<Value>) -> Result<usize> {
    let value = value.with_context(|| format!("tidy.toml lacks `{key}`"))?;
    let number = value.as_integer().and_then(|it| usize::try_from(it).ok());
    number.with_context(|| format!("`{key}` in tidy.toml must be a whole number, got {value}"))
}

/// Lists files that are too long, and exceptions that have lost their reason.
pub fn check_lengths(files: &[SourceFile], limits: &Limits) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in files {
        let lines = file.shipped_lines();
        let limit = limits.long_files.get(&file.path).copied().unwrap_or(limits.file_lines);
        if lines > limit {
            problems.push(Problem {
                place: file.path.clone(),
                rule: "file-length",
                message: format!(
                    "{lines} lines without tests, the limit is {limit}: divide it by nouns, or \
                     list it in tidy.toml with a reason"
                ),
            });
        }
    }
    for (path, limit) in &limits.long_files {
        let file = files.iter().find(|it| it.path == *path);
        if file.is_none_or(|it| it.shipped_lines() <= limits.file_lines) {
            problems.push(Problem {
                place: "tidy.toml".to_owned(),
                rule: "stale-exception",
                message: format!("`{path}` no longer needs its limit of {limit} lines: remove it"),
            });
        }
    }
    problems
}

/// Counts the packages of Cargo.lock that come from elsewhere.
pub fn check_lock(lock: &str, limits: &Limits) -> Result<Vec<Problem>> {
    let table: Table = lock.parse().context("Cargo.lock is not TOML")?;
    let packages = table.get("package").and_then(Value::as_array);
    let packages = packages.context("Cargo.lock lists no packages")?;
    let foreign = packages.iter().filter(|it| it.get("source").is_some()).count();
    if foreign <= limits.dependencies {
        return Ok(Vec::new());
    }
    Ok(vec![Problem {
        place: "Cargo.lock".to_owned(),
        rule: "dependency-count",
        message: format!(
            "{foreign} packages from elsewhere, the limit is {}: do without one, or raise the \
             limit in tidy.toml in a commit that says why",
            limits.dependencies
        ),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "file_lines = 3\ndependencies = 1\n[long_files]\n\"a/long.rs\" = 5\n";

    fn rules(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|it| it.rule).collect()
    }

    fn file(path: &str, lines: usize) -> SourceFile {
        SourceFile::new(path.to_owned(), "let a = 1;\n".repeat(lines))
    }

    #[test]
    fn long_files_are_found_unless_listed() {
        let limits = Limits::parse(LIMITS).expect("well formed");
        let files = [file("a/short.rs", 3), file("a/long.rs", 5)];
        assert_eq!(rules(&check_lengths(&files, &limits)), [] as [&str; 0]);
        let files = [file("a/short.rs", 4), file("a/long.rs", 6)];
        assert_eq!(rules(&check_lengths(&files, &limits)), ["file-length", "file-length"]);
    }

    #[test]
    fn an_exception_without_need_is_stale() {
        let limits = Limits::parse(LIMITS).expect("well formed");
        assert_eq!(rules(&check_lengths(&[], &limits)), ["stale-exception"]);
        assert_eq!(rules(&check_lengths(&[file("a/long.rs", 2)], &limits)), ["stale-exception"]);
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let limits = Limits::parse("file_lines = 3\ndependencies = 1").expect("well formed");
        let text =
            format!("let a = 1;\n#[cfg(test)]\nmod tests {{\n{}}}\n", "fn b() {}\n".repeat(9));
        let files = [SourceFile::new("a/src/b.rs".to_owned(), text)];
        assert_eq!(rules(&check_lengths(&files, &limits)), [] as [&str; 0]);
    }

    #[test]
    fn one_dependency_too_many() {
        let limits = Limits::parse(LIMITS).expect("well formed");
        let ours = "[[package]]\nname = \"ours\"\n";
        let theirs = "[[package]]\nname = \"theirs\"\nsource = \"registry\"\n";
        let one = check_lock(&format!("{ours}{theirs}"), &limits).expect("a lock");
        assert_eq!(rules(&one), [] as [&str; 0]);
        let two = check_lock(&format!("{theirs}{theirs}"), &limits).expect("a lock");
        assert_eq!(rules(&two), ["dependency-count"]);
    }

    #[test]
    fn unknown_and_missing_keys_are_refused() {
        assert!(Limits::parse("file_lines = 3").is_err());
        assert!(Limits::parse(&format!("other = 1\n{LIMITS}")).is_err());
        assert!(Limits::parse("file_lines = -3\ndependencies = 1").is_err());
    }
}
