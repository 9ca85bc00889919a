//! `minicrit data preference-pairs|improve`: pairs of critiques out of a model.

use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
};

use minicrit_critic::{
    case::Case,
    critique::PromptStyle,
    data::{
        improve::{self, CONSTITUTION},
        pairs::{self, Drawing},
    },
    log::Log,
    taxonomy::Taxonomy,
};
use minicrit_hub::atomic_file;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Status, critic, points::Points, with_threads};
use crate::{
    args::{ImproveArgs, PairsArgs, ScoringArgs},
    catalog::Catalog,
    env::Environment,
    errors::{self, Failure},
    model::ModelRef,
    printer,
    settings::{Compute, CriticSettings},
    signals::Answering,
};

/// Several critiques of each case, the best against the worst.
///
/// # Errors
/// Those of the files, the models and the scorer.
pub fn preference_pairs(
    args: PairsArgs,
    environment: &Environment,
    catalog: &Catalog,
) -> anyhow::Result<Status> {
    let PairsArgs { input, output, candidates, temperature, scoring, critic, compute } = args;
    let compute = Compute::resolve(compute, environment)?;
    let settings = CriticSettings::resolve(critic, compute.clone(), environment, catalog)?;
    let drawing = Drawing { count: candidates as usize, temperature, seed: scoring.seed };
    let margin = scoring.margin;
    let job = Job::new(&input, &output, &settings, &scoring, format!("pairs {drawing:?}"))?;
    let judge = judge(&scoring, &compute, catalog)?;
    with_threads(compute.threads, move || {
        let mut points = Points::open(judge.as_ref(), scoring.score_command.as_deref())?;
        let mut backend = critic::backend(&settings)?;
        job.run(&mut |index, case| {
            let seed = drawing.seed.wrapping_add(index as u64);
            let drawing = Drawing { seed, ..drawing };
            let mut give = |case: &Case, text: &str| points.give(case, text);
            let drawn =
                pairs::candidates(backend.as_mut(), settings.style, case, drawing, &mut give)?;
            Ok(pairs::pair(case, &drawn, margin))
        })
    })
}

/// Critiques that the model improves by principles.
///
/// # Errors
/// Those of the files, the models and the scorer.
pub fn improve(
    args: ImproveArgs,
    environment: &Environment,
    catalog: &Catalog,
) -> anyhow::Result<Status> {
    let ImproveArgs { input, output, constitution, scoring, critic, compute } = args;
    let compute = Compute::resolve(compute, environment)?;
    let settings = CriticSettings::resolve(critic, compute.clone(), environment, catalog)?;
    let principles = match constitution {
        None => CONSTITUTION.to_owned(),
        Some(path) => {
            std::fs::read_to_string(&path).map_err(|it| errors::file("read", &path, &it))?
        }
    };
    let margin = scoring.margin;
    let job = Job::new(&input, &output, &settings, &scoring, format!("improve {principles}"))?;
    let judge = judge(&scoring, &compute, catalog)?;
    with_threads(compute.threads, move || {
        let mut points = Points::open(judge.as_ref(), scoring.score_command.as_deref())?;
        let mut backend = critic::backend(&settings)?;
        job.run(&mut |_, case| {
            let mut give = |case: &Case, text: &str| points.give(case, text);
            let style = settings.style;
            let improved =
                improve::improve(backend.as_mut(), style, case, &principles, margin, &mut give)?;
            Ok(improved.pair)
        })
    })
}

fn judge(
    scoring: &ScoringArgs,
    compute: &Compute,
    catalog: &Catalog,
) -> anyhow::Result<Option<CriticSettings>> {
    let Some(name) = &scoring.judge else { return Ok(None) };
    let compute = Compute { adapter: None, ..compute.clone() };
    let style = Some(PromptStyle::Expert);
    Ok(Some(CriticSettings::of(ModelRef::parse(name, catalog)?, compute, style)?))
}

/// Cases in, pairs out, with a log of what is done.
struct Job {
    cases: Vec<Case>,
    output: PathBuf,
    header: Header,
}

/// What a log belongs to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    input: String,
    model: String,
    how: String,
}

/// One finished case.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    id: String,
    pair: Option<Value>,
}

impl Job {
    fn new(
        input: &Path,
        output: &Path,
        settings: &CriticSettings,
        scoring: &ScoringArgs,
        how: String,
    ) -> anyhow::Result<Self> {
        let ScoringArgs { judge, score_command, margin, seed } = scoring;
        let how =
            format!("{how} {judge:?} {score_command:?} {margin} {seed} {}", settings.style.name());
        let header = Header { input: input.display().to_string(), model: settings.label(), how };
        let cases = Case::read(input, Taxonomy::builtin())?;
        Ok(Self { cases, output: output.to_path_buf(), header })
    }

    /// Works on each case that is not done yet; at the end the pairs appear and the log goes.
    fn run(
        self,
        work: &mut dyn FnMut(usize, &Case) -> minicrit_critic::Result<Option<Value>>,
    ) -> anyhow::Result<Status> {
        let mut name = self.output.clone().into_os_string();
        name.push(".part");
        let part = PathBuf::from(name);
        let (mut log, known) = Log::open::<Header, Done>(&part, &self.header)?;
        let mut known: HashMap<String, Option<Value>> =
            known.into_iter().map(|it| (it.id, it.pair)).collect();
        let answering = Answering::begin();
        let bar = printer::Bar::start("pairs", self.cases.len());
        let mut pairs = Vec::new();
        for (index, case) in self.cases.iter().enumerate() {
            if answering.interrupted() {
                printer::note(&format!(
                    "stopped after {index} of {} cases; run the same command to go on",
                    self.cases.len()
                ));
                return Ok(Status::Interrupted);
            }
            let pair = match known.remove(&case.id) {
                Some(pair) => pair,
                None => {
                    let pair = work(index, case)?;
                    log.append(&Done { id: case.id.clone(), pair: pair.clone() })?;
                    pair
                }
            };
            pairs.extend(pair);
            bar.set(index + 1);
        }
        drop(bar);
        if pairs.is_empty() {
            let message = format!("none of {} cases gave a pair", self.cases.len());
            return Err(Failure::failed("no-pairs", message)
                .hint("raise --temperature or --candidates, or lower --margin")
                .into());
        }
        atomic_file::write(&self.output, atomic_file::Readers::Umask, |file| {
            pairs.iter().try_for_each(|it| writeln!(file, "{it}"))
        })
        .map_err(|error: std::io::Error| errors::file("write", &self.output, &error))?;
        std::fs::remove_file(&part).map_err(|error| errors::file("remove", &part, &error))?;
        printer::note(&format!(
            "{} pairs of {} cases: {}",
            pairs.len(),
            self.cases.len(),
            self.output.display()
        ));
        Ok(Status::Done)
    }
}
