//! The rules that look at one source file.

use std::collections::BTreeMap;

use super::{
    Problem,
    source::{SourceFile, lines_with},
};

/// Crates that never print, never read the environment and never look for the home folder.
const SILENT: [&str; 6] = ["quant/", "engine/", "hub/", "lora/", "critic/", "serve/"];

/// What a silent crate must not say. `env!` reads at build time and stays allowed.
const FORBIDDEN_IN_SILENT: [&str; 9] = [
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "dbg!",
    "std::env",
    "env::",
    "home_dir",
    "etcetera",
];

/// The only files that may ask for an accelerator's feature.
const ACCELERATOR_FILES: [&str; 4] = [
    "quant/src/kernels/mod.rs",
    "quant/src/kernels/cuda.rs",
    "quant/src/kernels/metal.rs",
    "engine/src/device.rs",
];

/// Every problem of one file.
pub fn check(file: &SourceFile) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(module_doc(file));
    problems.extend(arch_holds_no_forward(file));
    problems.extend(silent_crates(file));
    problems.extend(anyhow_stays_in_the_shell(file));
    problems.extend(op_has_reference(file));
    problems.extend(accelerator_features(file));
    problems
}

/// Every file begins by saying what it is.
fn module_doc(file: &SourceFile) -> Vec<Problem> {
    let first = file.text.lines().map(str::trim).find(|it| !it.is_empty() && !it.starts_with("#!"));
    if first.is_some_and(|it| it.starts_with("//!")) {
        return Vec::new();
    }
    vec![problem(file, 1, "module-doc", "begin the file with `//!` and what it is")]
}

/// An architecture is data: one decoder holds the only forward pass.
fn arch_holds_no_forward(file: &SourceFile) -> Vec<Problem> {
    if !file.path.starts_with("engine/src/arch") {
        return Vec::new();
    }
    let why = "an architecture describes; the decoder in engine/src/model computes";
    found(file, &file.code, "fn forward", "no-forward-in-arch", why)
}

/// Libraries leave the terminal, the environment and the home folder to the command line.
fn silent_crates(file: &SourceFile) -> Vec<Problem> {
    let is_silent = SILENT.iter().any(|it| file.path.starts_with(it));
    if !is_silent || file.path.ends_with("/build.rs") {
        return Vec::new();
    }
    // One problem a line is enough: `std::env::var` breaks the rule once, not twice.
    let mut words_by_line = BTreeMap::new();
    for word in FORBIDDEN_IN_SILENT {
        for line in lines_with(&file.shipped, word) {
            words_by_line.entry(line).or_insert(word);
        }
    }
    let why = |word: &str| format!("`{word}` belongs to the command line");
    let problems = words_by_line.into_iter();
    problems.map(|(line, word)| problem(file, line, "silent-library", &why(word))).collect()
}

/// Libraries have errors with names; only the shell around them may box them up.
fn anyhow_stays_in_the_shell(file: &SourceFile) -> Vec<Problem> {
    if ["cli/", "xtask/"].iter().any(|it| file.path.starts_with(it)) {
        return Vec::new();
    }
    found(file, &file.code, "anyhow", "anyhow", "only `cli` and `xtask` use anyhow")
}

/// Every fast operation has a plain reference beside it.
fn op_has_reference(file: &SourceFile) -> Vec<Problem> {
    if op_name(file).is_none() || !lines_with(&file.code, "fn reference").is_empty() {
        return Vec::new();
    }
    vec![problem(file, 1, "op-reference", "write the op plainly as `fn reference`")]
}

/// Every operation's gradient is checked, in the one file that checks them all.
pub fn ops_have_gradient_checks(files: &[SourceFile]) -> Vec<Problem> {
    let checks = files.iter().find(|it| it.path == "engine/tests/gradients.rs");
    let checked = |name: &str| {
        checks.is_some_and(|it| !lines_with(&it.code, &format!("fn {name}_gradients")).is_empty())
    };
    let unchecked = |file: &&SourceFile| op_name(file).is_some_and(|name| !checked(name));
    files
        .iter()
        .filter(unchecked)
        .map(|file| {
            problem(file, 1, "op-gradient", "check its gradient in engine/tests/gradients.rs")
        })
        .collect()
}

/// The name of the operation that a file holds, if it holds one. Of an operation in a folder that
/// is `mod.rs`; the files beside it are parts.
fn op_name(file: &SourceFile) -> Option<&str> {
    let path = file.path.strip_prefix("engine/src/ops/")?.strip_suffix(".rs")?;
    let name = path.strip_suffix("/mod").unwrap_or(path);
    (name != "mod" && !name.contains('/')).then_some(name)
}

/// Accelerators are chosen in a handful of files, so that no other code has two meanings.
fn accelerator_features(file: &SourceFile) -> Vec<Problem> {
    if ACCELERATOR_FILES.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for feature in ["cuda", "metal"] {
        let word = format!("feature = \"{feature}\"");
        let why = format!("only {} may ask for it", ACCELERATOR_FILES.join(", "));
        problems.extend(found(file, &file.commentless, &word, "accelerator-feature", &why));
    }
    problems
}

fn found(file: &SourceFile, code: &str, word: &str, rule: &'static str, why: &str) -> Vec<Problem> {
    lines_with(code, word).into_iter().map(|line| problem(file, line, rule, why)).collect()
}

fn problem(file: &SourceFile, line: usize, rule: &'static str, message: &str) -> Problem {
    Problem { place: format!("{}:{line}", file.path), rule, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `place: rule` of each problem of a file with this path and text.
    fn broken(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile::new(path.to_owned(), text.to_owned());
        check(&file).iter().map(|it| format!("{}: {}", it.place, it.rule)).collect()
    }

    const CLEAN: [&str; 0] = [];

    #[test]
    fn a_file_without_module_doc() {
        assert_eq!(broken("cli/src/a.rs", "fn a() {}"), ["cli/src/a.rs:1: module-doc"]);
        assert_eq!(broken("cli/src/a.rs", "// Not a doc.\n"), ["cli/src/a.rs:1: module-doc"]);
        assert_eq!(broken("cli/src/a.rs", ""), ["cli/src/a.rs:1: module-doc"]);
        assert_eq!(broken("cli/src/a.rs", "#![allow(x)]\n\n//! A noun.\n"), CLEAN);
    }

    #[test]
    fn a_forward_in_an_architecture() {
        let text = "//! A.\nimpl A {\n    pub fn forward(&self) {}\n}";
        let path = "engine/src/arch/llama.rs";
        assert_eq!(broken(path, text), ["engine/src/arch/llama.rs:3: no-forward-in-arch"]);
        assert_eq!(broken("engine/src/model/layer.rs", text), CLEAN);
        assert_eq!(broken(path, "//! A.\n// There is no fn forward here.\n"), CLEAN);
    }

    #[test]
    fn a_library_that_prints_or_reads_the_environment() {
        for line in [
            "println!(\"a\");",
            "eprintln!();",
            "print!(\"a\");",
            "eprint!(\"a\");",
            "dbg!(1);",
            "use std::env;",
            "let a = std::env::var(\"A\");",
            "let a = env::var(\"A\");",
            "let a = dirs::home_dir();",
        ] {
            let text = format!("//! A.\n{line}\n");
            assert_eq!(broken("quant/src/a.rs", &text), ["quant/src/a.rs:2: silent-library"]);
            assert_eq!(broken("cli/src/a.rs", &text), CLEAN, "{line}");
            let test = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{line}\n}}\n");
            assert_eq!(broken("engine/src/a.rs", &test), CLEAN, "{line}");
        }
        assert_eq!(broken("engine/src/a.rs", "//! A.\nlet a = env!(\"CARGO\");\n"), CLEAN);
        assert_eq!(broken("engine/src/a.rs", "//! A.\n// println! is not for us.\n"), CLEAN);
    }

    #[test]
    fn anyhow_outside_the_shell() {
        let text = "//! A.\nuse anyhow::Result;\n";
        assert_eq!(broken("engine/src/a.rs", text), ["engine/src/a.rs:2: anyhow"]);
        assert_eq!(broken("xtask/src/a.rs", text), CLEAN);
    }

    #[test]
    fn an_op_without_reference() {
        let path = "engine/src/ops/rope.rs";
        let bare = "//! A.\npub fn rope() {}\nfn reference_of() {}\n";
        assert_eq!(broken(path, bare), ["engine/src/ops/rope.rs:1: op-reference"]);
        assert_eq!(broken(path, "//! A.\npub fn reference() {}\n"), CLEAN);
        assert_eq!(broken("engine/src/ops/mod.rs", "//! A.\n"), CLEAN);
        let folder = "engine/src/ops/attend/mod.rs";
        assert_eq!(broken(folder, bare), ["engine/src/ops/attend/mod.rs:1: op-reference"]);
        assert_eq!(broken("engine/src/ops/attend/backward.rs", bare), CLEAN);
    }

    #[test]
    fn an_op_without_gradient_check() {
        let file = |path: &str, text: &str| SourceFile::new(path.to_string(), text.to_string());
        let op = file("engine/src/ops/rope.rs", "//! A.\n");
        let checks = |text: &str| file("engine/tests/gradients.rs", text);
        let found = |files: &[SourceFile]| ops_have_gradient_checks(files).len();
        assert_eq!(found(&[checks("//! A.\nfn other_gradients() {}\n")]), 0);
        let missing = [file("engine/src/ops/rope.rs", "//! A.\n"), checks("//! A.\n")];
        assert_eq!(found(&missing), 1);
        assert_eq!(found(&[op, checks("//! A.\nfn rope_gradients() {}\n")]), 0);
    }

    #[test]
    fn an_accelerator_feature_in_other_files() {
        let text = "//! A.\n#[cfg(feature = \"cuda\")]\nfn a() {}\n";
        assert_eq!(
            broken("engine/src/model/layer.rs", text),
            ["engine/src/model/layer.rs:2: accelerator-feature"]
        );
        let metal = text.replace("cuda", "metal");
        assert_eq!(broken("cli/src/a.rs", &metal), ["cli/src/a.rs:2: accelerator-feature"]);
        assert_eq!(broken("engine/src/device.rs", text), CLEAN);
    }
}
