//! Rejection sampling (Yuan et al. 2023): critiques are drawn from the model by the engine that
//! serves it, scored, and the best of each case become the rows that are trained on.

use std::{collections::HashSet, io::Write, path::Path};

use minicrit_critic::{
    case::Case,
    critique::PromptStyle,
    data::pairs::{self, Candidate, Drawing},
    log::Log,
    taxonomy::Taxonomy,
};
use minicrit_hub::atomic_file;
use minicrit_lora::data::{DataFile, Split};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    adapter::AdapterRef,
    commands::{critic, points::Points},
    errors::{self, Failure},
    printer,
    settings::{Compute, CriticSettings, FinetuneSettings, RejectionSettings, Trained},
    signals::Answering,
};

/// The rows that were kept, in the output's folder.
const KEPT: &str = "rsf.jsonl";

/// What a log belongs to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    cases: String,
    model: String,
    how: String,
}

/// One finished case.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    rows: Vec<Value>,
}

/// The settings of the training on what was kept; `None` where Ctrl-C came. Cases that are done stay
/// so: the same command goes on behind them.
///
/// # Errors
/// Those of the cases, the model and the scorer; nothing that is worth keeping.
pub fn sampled(
    settings: &FinetuneSettings,
    rejection: &RejectionSettings,
) -> anyhow::Result<Option<FinetuneSettings>> {
    let (train, valid): (Vec<&DataFile>, Vec<&DataFile>) =
        settings.files.iter().partition(|it| it.split == Split::Train);
    let [file] = train[..] else {
        return Err(Failure::usage("usage", "cases come from one file: `--data`").into());
    };
    let cases = Case::read(&file.path, Taxonomy::builtin())?;
    let folder = &settings.output;
    std::fs::create_dir_all(folder).map_err(|it| errors::file("create", folder, &it))?;
    let critic = asked(settings)?;
    let header = Header {
        cases: hash(&cases),
        model: critic.label(),
        how: format!("{rejection:?} seed {}", settings.seed),
    };
    let part = folder.join(format!("{KEPT}.part"));
    let (mut log, mut done) = Log::open::<Header, Done>(&part, &header)?;
    done.truncate(cases.len());
    let answering = Answering::begin();
    if done.len() < cases.len() {
        let mut backend = critic::backend(&critic)?;
        let mut points = Points::open(None, rejection.program.as_deref())?;
        let bar = printer::Bar::start("critiques", cases.len());
        for (index, case) in cases.iter().enumerate().skip(done.len()) {
            if answering.interrupted() {
                drop(bar);
                let of = cases.len();
                printer::note(&format!("drew for {index} of {of} cases; the same command goes on"));
                return Ok(None);
            }
            let drawing = Drawing {
                count: rejection.samples,
                temperature: rejection.temperature,
                seed: settings.seed.wrapping_add(index as u64),
            };
            let mut give = |case: &Case, text: &str| points.give(case, text);
            let style = critic.style;
            let drawn = pairs::candidates(backend.as_mut(), style, case, drawing, &mut give)?;
            let one = Done { rows: kept(case, drawn, rejection) };
            log.append(&one)?;
            done.push(one);
            bar.set(index + 1);
        }
    }
    let rows: Vec<&Value> = done.iter().flat_map(|it| &it.rows).collect();
    if rows.is_empty() {
        let message = format!("none of {} cases got a critique worth keeping", cases.len());
        return Err(Failure::failed("no-samples", message)
            .hint("raise --samples or --sample-temperature, or begin with a better --init-adapter")
            .into());
    }
    let path = folder.join(KEPT);
    write(&path, &rows)?;
    let drawn = cases.len() * rejection.samples;
    printer::note(&format!("kept {} of {drawn} critiques: {}", rows.len(), path.display()));
    let mut files = vec![DataFile { path, split: Split::Train }];
    files.extend(valid.into_iter().cloned());
    Ok(Some(FinetuneSettings { files, ..settings.clone() }))
}

/// The model as it is before the training.
fn asked(settings: &FinetuneSettings) -> anyhow::Result<CriticSettings> {
    let adapter = match &settings.trained {
        Trained::Continued { dir, .. } => Some(AdapterRef { dir: dir.clone(), scale: 1.0 }),
        _ => None,
    };
    let compute = Compute { adapter, ..settings.compute.clone() };
    CriticSettings::of(settings.model.clone(), compute, Some(PromptStyle::Rationale))
}

/// The best share of the candidates, each text once. By rules, a wrong verdict is never kept.
fn kept(case: &Case, mut drawn: Vec<Candidate>, rejection: &RejectionSettings) -> Vec<Value> {
    let most = ((drawn.len() as f64 * rejection.share).round() as usize).max(1);
    // Stable: of equal points the first drawn is first.
    drawn.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut seen = HashSet::new();
    drawn.retain(|it| {
        let fits = rejection.program.is_some() || pairs::right_verdict(case, &it.text);
        fits && seen.insert(it.text.clone())
    });
    let turn = |role: &str, text: &str| json!({ "role": role, "content": text });
    let row = |it: &Candidate| {
        json!({
            "id": case.id,
            "score": it.score,
            "messages": [turn("user", &case.rationale), turn("assistant", &it.text)],
        })
    };
    drawn.iter().take(most).map(row).collect()
}

fn hash(cases: &[Case]) -> String {
    let mut hasher = blake3::Hasher::new();
    for case in cases {
        hasher.update(serde_json::to_string(case).unwrap_or_default().as_bytes()).update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

fn write(path: &Path, rows: &[&Value]) -> anyhow::Result<()> {
    atomic_file::write(path, atomic_file::Readers::Umask, |file| {
        rows.iter().try_for_each(|it| writeln!(file, "{it}"))
    })
    .map_err(|error: std::io::Error| errors::file("write", path, &error).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_best_share_is_kept_once_each_and_never_a_wrong_verdict() {
        let line = "{\"id\": \"a\", \"rationale\": \"r\", \"label\": \"valid\"}";
        let case = &Case::parse("x", line, Taxonomy::builtin()).unwrap()[0];
        let candidate = |text: &str, score| Candidate { text: text.into(), score };
        let drawn = vec![
            candidate("Verdict: flawed", 10.0),
            candidate("Verdict: valid", 16.0),
            candidate("Verdict: Valid\nWhy: x", 19.0),
            candidate("Verdict: Valid\nWhy: x", 19.0),
        ];
        let rejection =
            RejectionSettings { samples: 4, share: 0.75, temperature: 1.0, program: None };
        let texts = |rejection: &RejectionSettings| -> Vec<String> {
            let rows = kept(case, drawn.clone(), rejection);
            rows.iter().map(|it| it["messages"][1]["content"].as_str().unwrap().into()).collect()
        };
        let (best, good) = ("Verdict: Valid\nWhy: x", "Verdict: valid");
        assert_eq!(texts(&rejection), [best, good]);
        assert_eq!(texts(&RejectionSettings { share: 0.1, ..rejection.clone() }), [best]);
        let program = RejectionSettings { program: Some("p".into()), ..rejection };
        assert_eq!(texts(&program), [best, good, "Verdict: flawed"]);
    }
}
