//! `minicrit data hard-examples`: labelled rationales, perhaps in a model's own words.

use std::path::{Path, PathBuf};

use minicrit_critic::{
    case::Case,
    data::{
        HardExample, HardExamples, Kind, Patterns, Plan, Split, domains, rephrase::rephrase,
        variants,
    },
    log::Log,
    taxonomy::Taxonomy,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Status, critic, critic_data::write_lines, with_threads};
use crate::{
    args::{HardExamplesArgs, PatternsArg},
    catalog::Catalog,
    env::Environment,
    errors, printer,
    settings::{Compute, CriticSettings},
    signals::Answering,
};

/// Makes the items and writes them.
///
/// # Errors
/// Names that are not known; those of the files and of the model.
pub fn hard_examples(
    args: HardExamplesArgs,
    environment: &Environment,
    catalog: &Catalog,
) -> anyhow::Result<Status> {
    let HardExamplesArgs {
        count,
        kinds,
        domains: fields,
        seed,
        held_out,
        tuning,
        patterns,
        invented,
        short,
        from,
        output,
        temperature,
        critic,
        compute,
    } = args;
    let count = count as usize;
    let mut lines: Vec<Value> = match from {
        Some(path) => {
            let cases = Case::read(&path, Taxonomy::builtin())?;
            let made = variants(&cases, count, seed)?;
            made.iter().map(serde_json::to_value).collect::<Result<_, _>>()?
        }
        None => {
            let plan = Plan {
                count,
                kinds: listed(&kinds, &Kind::ALL, Kind::parse)?,
                domains: listed(&fields, &domains().iter().collect::<Vec<_>>(), Plan::domain)?,
                split: match (held_out, tuning) {
                    (true, _) => Split::Held,
                    (_, true) => Split::Tune,
                    _ => Split::Train,
                },
                patterns: match patterns {
                    PatternsArg::Common => Patterns::Common,
                    PatternsArg::Domain => Patterns::Domain,
                    PatternsArg::All => Patterns::All,
                },
                invented,
                seed,
            };
            let line: fn(&HardExample) -> Value =
                if short { HardExample::to_short_json } else { HardExample::to_json };
            HardExamples::new(plan)?.map(|it| it.map(|it| line(&it))).collect::<Result<_, _>>()?
        }
    };
    if critic.model.is_some() {
        let compute = Compute::resolve(compute, environment)?;
        let settings = CriticSettings::resolve(critic, compute, environment, catalog)?;
        let threads = settings.compute.threads;
        let output = output.as_deref();
        let job = Rephrasing { settings, temperature, seed };
        let status = with_threads(threads, || {
            Ok(match job.run(&mut lines, output)? {
                true => Status::Done,
                false => Status::Interrupted,
            })
        })?;
        if status == Status::Interrupted {
            return Ok(status);
        }
    }
    write_lines(output.as_deref(), lines.iter())?;
    if let Some(path) = output {
        remove_log(&path)?;
        printer::note(&format!("{} items: {}", lines.len(), path.display()));
    }
    Ok(Status::Done)
}

/// The names of a list with commas, or all.
fn listed<T: Clone>(
    text: &str,
    all: &[T],
    parse: impl Fn(&str) -> minicrit_critic::Result<T>,
) -> anyhow::Result<Vec<T>> {
    if text.trim() == "all" {
        return Ok(all.to_vec());
    }
    let names = text.split(',').filter(|it| !it.trim().is_empty());
    Ok(names.map(parse).collect::<Result<_, _>>()?)
}

/// What a log of rephrased items belongs to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    items: String,
    model: String,
    how: String,
}

/// One finished item: its new text, where it got one.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    text: Option<String>,
}

/// A model that says items in its own words.
struct Rephrasing {
    settings: CriticSettings,
    temperature: f64,
    seed: u64,
}

impl Rephrasing {
    /// Rephrases items where the label stays true; false where Ctrl-C came. With an output, what is
    /// done is kept beside it.
    fn run(self, lines: &mut [Value], output: Option<&Path>) -> anyhow::Result<bool> {
        let mut hasher = blake3::Hasher::new();
        for line in &*lines {
            hasher.update(line.to_string().as_bytes()).update(b"\n");
        }
        let header = Header {
            items: hasher.finalize().to_hex().to_string(),
            model: self.settings.label(),
            how: format!("temperature {} seed {}", self.temperature, self.seed),
        };
        let (mut log, mut done) = match output {
            Some(path) => {
                let (log, done) = Log::open::<Header, Done>(&part(path), &header)?;
                (Some(log), done)
            }
            None => (None, Vec::new()),
        };
        done.truncate(lines.len());
        let mut backend = critic::backend(&self.settings)?;
        let answering = Answering::begin();
        let bar = printer::Bar::start("rephrased", lines.len());
        for (index, line) in lines.iter().enumerate().skip(done.len()) {
            if answering.interrupted() {
                drop(bar);
                let of = lines.len();
                printer::note(&format!("stopped after {index} of {of} items"));
                return Ok(false);
            }
            let seed = self.seed.wrapping_add(index as u64);
            let text = line["rationale"].as_str().unwrap_or_default();
            let one = Done { text: rephrase(backend.as_mut(), text, self.temperature, seed)? };
            if let Some(log) = &mut log {
                log.append(&one)?;
            }
            done.push(one);
            bar.set(index + 1);
        }
        drop(bar);
        let new = done.iter().filter(|it| it.text.is_some()).count();
        printer::note(&format!(
            "{new} of {} items rephrased; of the others the label was not sure to stay true",
            lines.len()
        ));
        for (line, it) in std::iter::zip(lines, done) {
            set_text(line, it.text);
        }
        Ok(true)
    }
}

/// Gives the item its new rationale, also in what is trained on.
fn set_text(line: &mut Value, text: Option<String>) {
    let Some(text) = text else { return };
    if let Some(content) = line.pointer_mut("/messages/0/content") {
        *content = json!(text);
    }
    line["rationale"] = json!(text);
    line["rephrased"] = json!(true);
}

fn part(output: &Path) -> PathBuf {
    let mut name = output.to_path_buf().into_os_string();
    name.push(".part");
    name.into()
}

fn remove_log(output: &Path) -> anyhow::Result<()> {
    let part = part(output);
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(errors::file("remove", &part, &error).into())
        }
        _ => Ok(()),
    }
}
