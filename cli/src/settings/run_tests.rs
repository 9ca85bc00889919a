//! What the flags of `run` resolve to.
#![allow(clippy::unwrap_used)]

use clap::Parser;

use super::*;
use crate::args::{Cli, Command};

fn run_args(words: &[&str]) -> RunArgs {
    let cli = Cli::try_parse_from(["minicrit", "run"].iter().chain(words)).unwrap();
    match cli.into_command() {
        Some(Command::Run(args)) => *args,
        other => unreachable!("{other:?}"),
    }
}

fn resolve(words: &[&str], environment: &Environment) -> Result<RunSettings, Failure> {
    let catalog = Catalog::embedded();
    RunSettings::resolve(run_args(words), environment, &catalog, false)
}

#[test]
fn one_argument_is_a_model_or_else_a_prompt() {
    let none = Environment::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let check = |words: &[&str], model: ModelRef, input: Input| {
        let settings = resolve(words, &none).unwrap();
        assert_eq!((settings.model, settings.input), (model, input), "{words:?}");
    };
    check(&["two words"], ModelRef::Builtin, Input::Prompt("two words".into()));
    check(&["hello"], ModelRef::Builtin, Input::Prompt("hello".into()));
    check(&["nano"], ModelRef::Builtin, Input::Stdin);
    check(&[path], ModelRef::Path(path.into()), Input::Stdin);
    check(&[path, "nano"], ModelRef::Path(path.into()), Input::Prompt("nano".into()));
    check(&["./absent"], ModelRef::Path("./absent".into()), Input::Stdin);
    check(&["absent.gguf"], ModelRef::Path("absent.gguf".into()), Input::Stdin);
    let hub = ModelRef::parse("org/repo", &Catalog::embedded()).unwrap();
    check(&["org/repo"], hub, Input::Stdin);
    check(&[], ModelRef::Builtin, Input::Stdin);
}

#[test]
fn a_misspelt_model_is_no_prompt() {
    let none = Environment::default();
    for word in ["qwen2.5", "qwen2.5-0.5bb", "llama3.2"] {
        let failure = resolve(&[word], &none).unwrap_err();
        assert_eq!(failure.name, "model-not-found", "{word}");
    }
    for prompt in ["quiet", "3.14", "qwen", "what is qwen2.5"] {
        assert!(resolve(&[prompt], &none).is_ok(), "{prompt}");
    }
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_default() {
    let environment = Environment { threads: Some("3".into()), ..Environment::default() };
    assert_eq!(resolve(&["hi"], &environment).unwrap().compute.threads, 3);
    assert_eq!(resolve(&["hi", "--threads", "2"], &environment).unwrap().compute.threads, 2);
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(resolve(&["hi"], &Environment::default()).unwrap().compute.threads, cores);
    let bad = Environment { threads: Some("many".into()), ..Environment::default() };
    assert_eq!(resolve(&["hi"], &bad).unwrap_err().name, "bad-environment");
}

#[test]
fn an_unknown_format_is_refused_by_name() {
    let none = Environment::default();
    for format in ["q8", "q4", "q8_0", "Q4_K"] {
        assert!(resolve(&["hi", "--quant", format], &none).unwrap().compute.quantize.is_some());
    }
    assert_eq!(resolve(&["hi", "--quant", "q99"], &none).unwrap_err().name, "unknown-format");
    assert!(resolve(&["hi", "--quant", "none"], &none).is_ok());
}

#[test]
fn a_prompt_beside_ids_is_a_contradiction() {
    let none = Environment::default();
    let failure = resolve(&["some text", "--ids", "ids.json"], &none).unwrap_err();
    assert_eq!(failure.code, 2);
    let settings = resolve(&["nano", "--ids", "ids.json"], &none).unwrap();
    assert_eq!(settings.input, Input::Ids("ids.json".into()));
}

#[test]
fn a_misspelt_alias_is_not_taken_for_a_prompt() {
    let failure = resolve(&["qwen2.5:0.6b"], &Environment::default()).unwrap_err();
    assert_eq!((failure.name, failure.code), ("model-not-found", 3));
    assert!(failure.hint.unwrap().contains("qwen2.5:0.5b"));
}
