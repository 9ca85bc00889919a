//! The edges between our crates, and who may use which outside crate.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Problem;

/// Our crates from left to right: each may use the crates to its right.
const LAYERS: [&str; 7] = [
    "minicrit",
    "minicrit-serve",
    "minicrit-critic",
    "minicrit-lora",
    "minicrit-hub",
    "minicrit-engine",
    "minicrit-quant",
];

/// Crates beside the layers, and which layers each may use. Layers use them in tests alone.
const BESIDE: [(&str, &[&str]); 3] = [
    ("minicrit-testkit", &["minicrit-engine", "minicrit-quant"]),
    (
        "minicrit-benches",
        &[
            "minicrit-serve",
            "minicrit-critic",
            "minicrit-lora",
            "minicrit-hub",
            "minicrit-engine",
            "minicrit-quant",
        ],
    ),
    ("xtask", &[]),
];

/// Outside crates that belong to named crates alone.
const RESERVED: [(&str, &[&str]); 6] = [
    ("anyhow", &["minicrit", "xtask"]),
    ("clap", &["minicrit"]),
    ("etcetera", &["minicrit"]),
    ("tokio", &["minicrit-serve", "minicrit-hub"]),
    ("criterion", &["minicrit-benches"]),
    ("candle-transformers", &["minicrit-benches", "minicrit-testkit", "minicrit-engine"]),
];

/// Outside crates that are an oracle for tests and never part of the program.
const DEV_ONLY: [&str; 3] = ["candle-transformers", "criterion", "proptest"];

/// A crate of this workspace.
#[derive(Debug)]
pub struct Member {
    name: String,
    /// Where its Cargo.toml lies.
    pub folder: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    is_dev: bool,
    /// Whether it is a crate of this workspace.
    is_ours: bool,
}

/// Reads the members out of `cargo metadata`.
pub fn read_members(metadata: &Value) -> Result<Vec<Member>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    packages.iter().map(read_member).collect()
}

fn read_member(package: &Value) -> Result<Member> {
    let text = |value: &Value, key: &str| -> Result<String> {
        let found = value[key].as_str().with_context(|| format!("no `{key}` in cargo metadata"))?;
        Ok(found.to_owned())
    };
    let manifest = PathBuf::from(text(package, "manifest_path")?);
    let folder = manifest.parent().context("a manifest lies in a folder")?.to_path_buf();
    let dependencies = package["dependencies"].as_array().context("no dependencies listed")?;
    let dependencies = dependencies.iter().map(|it| {
        Ok(Dependency {
            name: text(it, "name")?,
            is_dev: it["kind"].as_str() == Some("dev"),
            is_ours: it["path"].is_string(),
        })
    });
    Ok(Member {
        name: text(package, "name")?,
        folder,
        dependencies: dependencies.collect::<Result<_>>()?,
    })
}

/// Lists every edge that the layer order does not allow.
pub fn check(members: &[Member]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for member in members {
        for dependency in &member.dependencies {
            let fault = if dependency.is_ours {
                forbidden_edge(&member.name, dependency)
            } else {
                forbidden_crate(&member.name, dependency)
            };
            problems.extend(fault.map(|(rule, why)| Problem {
                place: member.name.clone(),
                rule,
                message: format!("must not depend on `{}`: {why}", dependency.name),
            }));
        }
    }
    problems
}

/// Why one of our crates may not use another, if it may not.
fn forbidden_edge(from: &str, to: &Dependency) -> Option<(&'static str, String)> {
    let position = |name: &str| LAYERS.iter().position(|&it| it == name);
    let no = |why: &str| Some(("edge", why.to_owned()));
    if let Some((_, allowed)) = BESIDE.iter().find(|(name, _)| *name == from) {
        let tests_with = from == "minicrit-benches" && to.name == "minicrit-testkit" && to.is_dev;
        if allowed.contains(&to.name.as_str()) || tests_with {
            return None;
        }
        return no("only the layers listed for it in xtask/src/tidy/edges.rs");
    }
    let Some(from_position) = position(from) else {
        return no("the crate has no place in the layer order of xtask/src/tidy/edges.rs");
    };
    if to.name == "minicrit-testkit" {
        return if to.is_dev { None } else { no("it may only be a dev-dependency") };
    }
    match position(&to.name) {
        Some(to_position) if to_position > from_position => None,
        Some(_) => no(&format!("the order is {}", LAYERS.join(" -> "))),
        None => no("nothing depends on it"),
    }
}

/// Why a crate may not use an outside crate, if it may not.
fn forbidden_crate(from: &str, to: &Dependency) -> Option<(&'static str, String)> {
    if let Some((_, users)) = RESERVED.iter().find(|(name, _)| *name == to.name)
        && !users.contains(&from)
    {
        return Some(("reserved-crate", format!("it belongs to {}", users.join(", "))));
    }
    let is_tool = BESIDE.iter().any(|(name, _)| *name == from);
    if DEV_ONLY.contains(&to.name.as_str()) && !to.is_dev && !is_tool {
        return Some(("reserved-crate", "it may only be a dev-dependency".to_owned()));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The problems of one crate with one dependency.
    fn check_one(from: &str, to: &str, kind: Option<&str>) -> Vec<String> {
        let ours = LAYERS.contains(&to) || BESIDE.iter().any(|(name, _)| *name == to);
        let path = if ours { json!("/somewhere") } else { json!(null) };
        let metadata = json!({"packages": [{
            "name": from,
            "manifest_path": "/somewhere/Cargo.toml",
            "dependencies": [{"name": to, "kind": kind, "path": path}],
        }]});
        let members = read_members(&metadata).expect("well formed");
        check(&members).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn a_crate_may_use_those_to_its_right() {
        for (from, to) in [
            ("minicrit", "minicrit-engine"),
            ("minicrit-lora", "minicrit-quant"),
            ("minicrit-testkit", "minicrit-engine"),
            ("minicrit-benches", "minicrit-lora"),
        ] {
            assert_eq!(check_one(from, to, None), [] as [String; 0]);
        }
        assert_eq!(check_one("minicrit-engine", "minicrit-testkit", Some("dev")).len(), 0);
        assert_eq!(check_one("minicrit-benches", "minicrit-testkit", Some("dev")).len(), 0);
    }

    #[test]
    fn an_edge_to_the_left_is_named() {
        let problems = check_one("minicrit-quant", "minicrit-engine", None);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("minicrit-quant: edge: "), "{problems:?}");
        assert!(problems[0].contains("`minicrit-engine`"), "{problems:?}");
        assert_eq!(check_one("minicrit-engine", "minicrit-lora", Some("dev")).len(), 1);
        assert_eq!(check_one("minicrit-engine", "minicrit-lora", Some("build")).len(), 1);
    }

    #[test]
    fn tools_are_dev_edges_only_and_know_only_their_own() {
        assert_eq!(check_one("minicrit-engine", "minicrit-testkit", None).len(), 1);
        assert_eq!(check_one("minicrit", "minicrit-benches", Some("dev")).len(), 1);
        assert_eq!(check_one("minicrit", "xtask", None).len(), 1);
        assert_eq!(check_one("minicrit-testkit", "minicrit-lora", None).len(), 1);
        assert_eq!(check_one("xtask", "minicrit-quant", None).len(), 1);
    }

    #[test]
    fn a_crate_without_a_place_is_refused() {
        assert_eq!(check_one("minicrit-extra", "minicrit-quant", None).len(), 1);
    }

    #[test]
    fn reserved_crates_stay_where_they_belong() {
        assert_eq!(check_one("minicrit", "anyhow", None).len(), 0);
        assert_eq!(check_one("minicrit-engine", "anyhow", None).len(), 1);
        assert_eq!(check_one("minicrit-quant", "anyhow", Some("dev")).len(), 1);
        assert_eq!(check_one("minicrit-engine", "candle-transformers", Some("dev")).len(), 0);
        assert_eq!(check_one("minicrit-engine", "candle-transformers", None).len(), 1);
    }
}
