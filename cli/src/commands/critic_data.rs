//! `minicrit data`: files of rationales and of training rows.

use std::{
    io::{self, Write},
    path::Path,
};

use minicrit_critic::{
    data::{Rows, Scorer, Stats, text_of},
    taxonomy::Taxonomy,
};
use minicrit_hub::atomic_file;
use serde_json::{Value, json};

use super::Status;
use crate::{
    args::{DataCommand, DedupArgs, FlawsArgs, ScoreTextArgs, SplitArgs, StatsArgs},
    errors, printer,
};

/// Does what was typed.
///
/// # Errors
/// Those of the files.
pub fn data(command: DataCommand) -> anyhow::Result<Status> {
    match command {
        DataCommand::Flaws(args) => flaws(args)?,
        DataCommand::Dedup(args) => dedup(args)?,
        DataCommand::Split(args) => split(args)?,
        DataCommand::Stats(args) => stats(args)?,
        DataCommand::Score(args) => score(args)?,
        DataCommand::Check(_)
        | DataCommand::HardExamples(_)
        | DataCommand::PreferencePairs(_)
        | DataCommand::Improve(_) => {
            unreachable!("invariant: what needs a model has a command of its own")
        }
    }
    Ok(Status::Done)
}

fn flaws(FlawsArgs { json }: FlawsArgs) -> anyhow::Result<()> {
    let flaws = Taxonomy::builtin().flaws();
    if json {
        return printer::json(&json!({ "flaws": flaws }));
    }
    let rows: Vec<_> =
        flaws.iter().map(|it| [it.name.clone(), it.group.clone(), it.definition.clone()]).collect();
    Ok(printer::data(&printer::table(["FLAW", "GROUP", "DEFINITION"], &rows))?)
}

fn dedup(DedupArgs { file, similarity, output, json }: DedupArgs) -> anyhow::Result<()> {
    let rows = Rows::read(&file)?;
    let (kept, exact, near) = rows.unique(similarity);
    if let Some(path) = &output {
        write_lines(Some(path), kept.iter().copied())?;
    }
    let read = rows.values().len();
    if json {
        return printer::json(
            &json!({ "read": read, "kept": kept.len(), "duplicates": exact, "near_duplicates": near }),
        );
    }
    let line = format!(
        "{read} rows, {exact} repeated word for word, {near} nearly repeated, {} kept",
        kept.len()
    );
    Ok(printer::data(&line)?)
}

fn split(args: SplitArgs) -> anyhow::Result<()> {
    let SplitArgs { file, valid, similarity, seed, output, json } = args;
    let rows = Rows::read(&file)?;
    let parts = rows.split(valid, similarity, seed)?;
    std::fs::create_dir_all(&output).map_err(|it| errors::file("create", &output, &it))?;
    write_lines(Some(&output.join("train.jsonl")), parts.train.iter().copied())?;
    write_lines(Some(&output.join("valid.jsonl")), parts.valid.iter().copied())?;
    let (train, valid) = (parts.train.len(), parts.valid.len());
    if json {
        return printer::json(&json!({ "train": train, "valid": valid, "groups": parts.groups }));
    }
    let line = format!(
        "{train} rows for training, {valid} for validation, out of {} groups of similar rows",
        parts.groups
    );
    Ok(printer::data(&line)?)
}

fn stats(StatsArgs { file, svg, json }: StatsArgs) -> anyhow::Result<()> {
    let stats = Stats::of(&Rows::read(&file)?);
    if let Some(path) = svg {
        write(&path, stats.to_svg().as_bytes())?;
    }
    if json {
        return printer::json(&stats);
    }
    let [least, middle, most] = stats.words;
    printer::data(&format!(
        "{} rows, {} repeated, {} nearly repeated; words in a text: {least} to {most}, half up to {middle}",
        stats.rows, stats.duplicates, stats.near_duplicates
    ))?;
    let largest = |counts: &[usize]| counts.iter().copied().max().unwrap_or(1).max(1);
    let bar = |count: usize, most: usize| "#".repeat((count * 30).div_ceil(most));
    let mut rows = Vec::new();
    let most = largest(&stats.lengths.iter().map(|it| it.1).collect::<Vec<_>>());
    for (class, count) in stats.lengths.iter().filter(|it| it.1 > 0) {
        rows.push(["words".into(), class.clone(), count.to_string(), bar(*count, most)]);
    }
    for (column, values) in &stats.columns {
        let most = largest(&values.values().copied().collect::<Vec<_>>());
        for (value, &count) in values {
            rows.push([column.clone(), value.clone(), count.to_string(), bar(count, most)]);
        }
    }
    Ok(printer::data(&printer::table(["COLUMN", "VALUE", "ROWS", ""], &rows))?)
}

fn score(args: ScoreTextArgs) -> anyhow::Result<()> {
    let ScoreTextArgs { file, scorer, explain, min, output, json } = args;
    let scorer = Scorer::parse(&scorer)?;
    let rows = Rows::read(&file)?;
    let scores: Vec<_> = rows.values().iter().map(|it| scorer.score(&answer_of(it))).collect();
    let kept: Vec<Value> = std::iter::zip(rows.values(), &scores)
        .filter(|it| it.1.score >= min)
        .map(|(row, score)| {
            let mut row = row.clone();
            row["score"] = score.score.into();
            row
        })
        .collect();
    if let Some(path) = &output {
        write_lines(Some(path), kept.iter())?;
    }
    let mean = scores.iter().map(|it| it.score).sum::<f64>() / scores.len() as f64;
    if json {
        let list = if explain {
            json!(scores)
        } else {
            json!(scores.iter().map(|it| it.score).collect::<Vec<_>>())
        };
        return printer::json(
            &json!({ "read": scores.len(), "kept": kept.len(), "mean": mean, "scores": list }),
        );
    }
    if explain {
        for (at, score) in scores.iter().enumerate() {
            let reasons: Vec<String> =
                score.reasons.iter().map(|(what, points)| format!("{points:+.1} {what}")).collect();
            printer::data(&format!("{:>4}  {:>4.1}  {}", at + 1, score.score, reasons.join(", ")))?;
        }
    }
    let line =
        format!("{} texts, mean {mean:.2}, {} with at least {min}", scores.len(), kept.len());
    Ok(printer::data(&line)?)
}

/// The text that is scored: an answer where there is one.
fn answer_of(row: &Value) -> String {
    let field = |name: &&str| row.get(name).and_then(Value::as_str);
    if let Some(text) = ["critique", "output", "completion", "text"].iter().find_map(field) {
        return text.to_owned();
    }
    let turns = row.get("messages").and_then(Value::as_array);
    let last = turns.and_then(|it| it.iter().rfind(|it| it["role"] == "assistant"));
    last.and_then(|it| it["content"].as_str()).map_or_else(|| text_of(row), str::to_owned)
}

pub(super) fn write_lines<'a>(
    path: Option<&Path>,
    lines: impl Iterator<Item = &'a Value>,
) -> anyhow::Result<()> {
    let fill = |out: &mut dyn Write| -> io::Result<()> {
        for line in lines {
            writeln!(out, "{line}")?;
        }
        Ok(())
    };
    match path {
        Some(path) => atomic_file::write(path, atomic_file::Readers::Umask, |file| fill(file))
            .map_err(|error: io::Error| errors::file("write", path, &error).into()),
        None => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            fill(&mut out)?;
            Ok(out.flush()?)
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    atomic_file::write(path, atomic_file::Readers::Umask, |file| file.write_all(bytes))
        .map_err(|error: io::Error| errors::file("write", path, &error).into())
}
