//! `minicrit critique`: verdicts on one rationale or on a file of them.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use minicrit_critic::{
    Error,
    case::Verdict,
    critique::{Critic, Critique},
    data::Rows,
    log::Log,
    taxonomy::Taxonomy,
};
use minicrit_hub::atomic_file;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Status, critic};
use crate::{
    errors::{self, Failure},
    printer,
    settings::{CriticSettings, CritiqueSettings, Rationales},
    signals::Answering,
};

/// The largest text that is judged.
const MOST_BYTES: u64 = 16 << 20;

/// Judges and prints.
///
/// # Errors
/// Those of the files, the model and the stream.
pub fn critique(settings: &CritiqueSettings) -> anyhow::Result<Status> {
    if let Rationales::Batch { input, output } = &settings.rationales {
        return batch(settings, input, output.as_deref());
    }
    let text = read(&settings.rationales)?;
    // A mistake in the input is told before a model is loaded.
    if text.trim().is_empty() {
        return Err(Error::EmptyRationale.into());
    }
    let mut critic = critic::open(&settings.critic)?;
    let critique = judge(&mut critic, &text, settings.explain)?;
    if settings.json {
        printer::json(&critique)?;
    } else {
        printer::data(&for_people(&critique))?;
    }
    Ok(status(settings, critique.verdict == Verdict::Flawed))
}

fn status(settings: &CritiqueSettings, any_flawed: bool) -> Status {
    if settings.fail_on_flawed && any_flawed { Status::Flawed } else { Status::Done }
}

fn judge(critic: &mut Critic, text: &str, explain: bool) -> anyhow::Result<Critique> {
    Ok(if explain { critic.explained(text)? } else { critic.critique(text)? })
}

fn read(rationales: &Rationales) -> anyhow::Result<String> {
    let (name, bytes) = match rationales {
        Rationales::Text(text) => return Ok(text.clone()),
        Rationales::Stdin => ("standard input".to_owned(), limited(std::io::stdin().lock())?),
        Rationales::File(path) | Rationales::Batch { input: path, .. } => {
            let failed = |error: std::io::Error| errors::file("read", path, &error);
            let file = std::fs::File::open(path).map_err(failed)?;
            (format!("`{}`", path.display()), limited(file).map_err(failed)?)
        }
    };
    if bytes.len() as u64 > MOST_BYTES {
        let message = format!("{name} has more than {MOST_BYTES} bytes");
        return Err(Failure::failed("prompt-too-large", message).into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::failed("bad-text", format!("{name} is not UTF-8 at byte {at}")).into()
    })
}

fn limited(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Without an explanation of the model's own, a flaw is described in the words of the taxonomy.
fn for_people(critique: &Critique) -> String {
    let percent = critique.confidence * 100.0;
    let mut lines = vec![format!("verdict     {}", critique.verdict.as_str())];
    if let Some(flaw) = &critique.flaw_type {
        lines.push(format!("flaw        {flaw}"));
    }
    lines.push(format!("confidence  {percent:.1} %"));
    let known = critique.flaw_type.as_deref().and_then(|it| Taxonomy::builtin().find(it));
    let why = critique.explanation.clone().or_else(|| known.map(|it| it.definition.clone()));
    let fix = critique.fix.clone().or_else(|| known.map(|it| it.fix.clone()));
    lines.extend(why.filter(|it| !it.is_empty()).map(|it| format!("why         {it}")));
    lines.extend(fix.filter(|it| !it.is_empty()).map(|it| format!("fix         {it}")));
    printer::clean(&lines.join("\n"))
}

/// What a log of critiques belongs to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    input: String,
    critic: String,
    how: String,
}

/// One finished line, as it will be written.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    line: String,
    flawed: bool,
}

/// One line out for each line in, in their order. With an output, finished lines are kept beside
/// it, and a run that was stopped or killed goes on behind them.
fn batch(
    settings: &CritiqueSettings,
    input: &Path,
    output: Option<&Path>,
) -> anyhow::Result<Status> {
    let rows = Rows::read(input)?;
    let texts = rationales(input, &rows)?;
    let (mut log, mut lines) = match output {
        Some(path) => {
            let (log, lines) = Log::open::<Header, Done>(&part(path), &header(settings, &rows))?;
            (Some(log), lines)
        }
        None => (None, Vec::new()),
    };
    lines.truncate(texts.len());
    let mut critic = critic::open(&settings.critic)?;
    let answering = Answering::begin();
    let bar = printer::Bar::start("critiques", texts.len());
    for (row, text) in std::iter::zip(rows.values(), &texts).skip(lines.len()) {
        if answering.interrupted() {
            break;
        }
        let critique = judge(&mut critic, text, settings.explain)?;
        let line = serde_json::to_string(&merged(row, &critique)?)?;
        let done = Done { line, flawed: critique.verdict == Verdict::Flawed };
        match &mut log {
            Some(log) => log.append(&done)?,
            None => printer::data(&done.line)?,
        }
        lines.push(done);
        bar.set(lines.len());
    }
    drop(bar);
    if lines.len() < texts.len() {
        let done = format!("stopped after {} of {} rationales", lines.len(), texts.len());
        let how = if output.is_some() { "; run the same command to go on" } else { "" };
        printer::note(&format!("{done}{how}"));
        return Ok(Status::Interrupted);
    }
    if let Some(path) = output {
        atomic_file::write(path, atomic_file::Readers::Owner, |file| {
            lines.iter().try_for_each(|it| writeln!(file, "{}", it.line))
        })
        .map_err(|error: std::io::Error| errors::file("write", path, &error))?;
        let part = part(path);
        std::fs::remove_file(&part).map_err(|error| errors::file("remove", &part, &error))?;
    }
    Ok(status(settings, lines.iter().any(|it| it.flawed)))
}

/// Where finished lines are kept until all are done.
fn part(output: &Path) -> PathBuf {
    let mut name = output.to_path_buf().into_os_string();
    name.push(".part");
    name.into()
}

fn header(settings: &CritiqueSettings, rows: &Rows) -> Header {
    let mut hasher = blake3::Hasher::new();
    for row in rows.values() {
        hasher.update(row.to_string().as_bytes()).update(b"\n");
    }
    let CriticSettings { style, calibration, .. } = &settings.critic;
    Header {
        input: hasher.finalize().to_hex().to_string(),
        critic: settings.critic.label(),
        how: format!("{} {calibration:?} explain {}", style.name(), settings.explain),
    }
}

fn rationales<'a>(input: &Path, rows: &'a Rows) -> anyhow::Result<Vec<&'a str>> {
    let text = |it: &'a Value| {
        it.get("rationale").and_then(Value::as_str).filter(|it| !it.trim().is_empty())
    };
    let problems: Vec<String> = rows
        .values()
        .iter()
        .enumerate()
        .filter(|it| text(it.1).is_none())
        .map(|it| format!("object {}: no `rationale`", it.0 + 1))
        .collect();
    if !problems.is_empty() {
        let read = rows.values().len();
        return Err(Error::BadLines { path: input.to_path_buf(), read, problems }.into());
    }
    Ok(rows.values().iter().filter_map(text).collect())
}

/// The row's own fields, then the critique's, which win.
fn merged(row: &Value, critique: &Critique) -> anyhow::Result<Value> {
    let mut merged = row.clone();
    if let (Some(fields), Value::Object(new)) =
        (merged.as_object_mut(), serde_json::to_value(critique)?)
    {
        fields.extend(new);
    }
    Ok(merged)
}
