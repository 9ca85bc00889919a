//! `minicrit critique`: verdicts on one rationale or on a file of them.

use std::{
    io::{BufWriter, Read, Write},
    path::Path,
};

use minicrit_critic::{
    Error,
    case::Verdict,
    critique::{Critic, Critique},
    data::Rows,
    taxonomy::Taxonomy,
};
use minicrit_hub::atomic_file;
use serde_json::Value;

use super::{Status, critic};
use crate::{
    errors::{self, Failure},
    printer,
    settings::{CritiqueSettings, Rationales},
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

/// One line out for each line in, in their order. Ctrl-C keeps what is done.
fn batch(
    settings: &CritiqueSettings,
    input: &Path,
    output: Option<&Path>,
) -> anyhow::Result<Status> {
    let rows = Rows::read(input)?;
    let texts = rationales(input, &rows)?;
    let mut critic = critic::open(&settings.critic)?;
    let answering = Answering::begin();
    let bar = printer::Bar::start("critiques", texts.len());
    let (mut any_flawed, mut done) = (false, 0);
    let mut all = |write: &mut dyn Write| -> anyhow::Result<()> {
        for (row, text) in std::iter::zip(rows.values(), &texts) {
            if answering.interrupted() {
                break;
            }
            let critique = judge(&mut critic, text, settings.explain)?;
            any_flawed |= critique.verdict == Verdict::Flawed;
            serde_json::to_writer(&mut *write, &merged(row, &critique)?)?;
            writeln!(write)?;
            done += 1;
            bar.set(done);
        }
        Ok(())
    };
    match output {
        Some(path) => atomic_file::write(path, atomic_file::Readers::Owner, |file| all(file))?,
        None => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            all(&mut out)?;
            out.flush()?;
        }
    }
    if done < texts.len() {
        printer::note(&format!("stopped after {done} of {} rationales", texts.len()));
        return Ok(Status::Interrupted);
    }
    Ok(status(settings, any_flawed))
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
