//! `minicrit adapters promote|history|rollback`: versions of a named adapter, behind the gate.

use std::path::PathBuf;

use minicrit_critic::{
    case::both_labels,
    critique::PromptStyle,
    eval::{Metric, ModelReport, Suite, run},
    gate::{self, Decision},
    versions::Versions,
};
use serde_json::json;

use super::{Status, critic, with_threads};
use crate::{
    adapter::AdapterRef,
    args::{AdaptersCommand, HistoryArgs, PromoteArgs, RollbackArgs},
    catalog::Catalog,
    data_folder,
    env::Environment,
    errors::Failure,
    journal, printer,
    settings::{Compute, CriticSettings, model_or_default},
};

/// Does what was typed.
///
/// # Errors
/// Those of the files, the models and the gate.
pub fn adapters(
    command: AdaptersCommand,
    environment: &Environment,
    catalog: &Catalog,
) -> anyhow::Result<Status> {
    match command {
        AdaptersCommand::Promote(args) => promote(*args, environment, catalog),
        AdaptersCommand::History(args) => history(&args, environment),
        AdaptersCommand::Rollback(args) => roll_back(&args, environment),
        _ => unreachable!("invariant: other commands go elsewhere"),
    }
}

fn versions(environment: &Environment, name: &str) -> anyhow::Result<Versions> {
    let home = data_folder::path(environment)
        .ok_or_else(|| Failure::failed("no-data-folder", "this user has no home folder"))?;
    Ok(Versions::open(&home.join("adapters"), name)?)
}

fn promote(
    args: PromoteArgs,
    environment: &Environment,
    catalog: &Catalog,
) -> anyhow::Result<Status> {
    let PromoteArgs { adapter_dir, name, suite, domain, seed, json, critic, compute } = args;
    let versions = versions(environment, &name)?;
    let mut suite = Suite::open(&suite)?;
    if let Some(domain) = &domain {
        suite = suite.of_domain(domain);
    }
    both_labels(&suite.name, &suite.cases)?;
    let compute = Compute { adapter: None, ..Compute::resolve(compute, environment)? };
    let style = critic.prompt.as_deref().map(PromptStyle::parse).transpose()?;
    let model = model_or_default(critic.model, environment, catalog)?;
    let with = |dir: Option<PathBuf>, style| {
        let adapter = dir.map(|dir| AdapterRef { dir, scale: 1.0 });
        CriticSettings::of(model.clone(), Compute { adapter, ..compute.clone() }, style)
    };
    let candidate = with(Some(adapter_dir.clone()), style)?;
    let mut rivals = vec![
        ("base", with(None, Some(candidate.style))?),
        ("prompt only", with(None, Some(PromptStyle::Expert))?),
    ];
    if let Some(current) = versions.current()? {
        rivals.push(("in use", with(Some(versions.path(current)), style)?));
    }
    let mut judged = Vec::new();
    with_threads(compute.threads, || {
        for (role, settings) in
            rivals.iter().map(|it| (it.0, &it.1)).chain([("candidate", &candidate)])
        {
            judged.push((role, measure(settings, &suite, seed)?));
        }
        Ok(Status::Done)
    })?;
    let Some((_, new)) = judged.last() else { return Ok(Status::Failed) };
    let decision = decide(&judged, new, seed);
    tell(&judged, &decision, &name, json)?;
    if !decision.promoted {
        return Ok(Status::Failed);
    }
    let version = versions.promote(&adapter_dir, &decision, &now())?;
    let fields = json!({ "name": name, "version": version, "cases": suite.cases.len() });
    journal::note_if_failed(journal::record(environment, "promote", fields));
    printer::note(&format!("version {version} of {name} is in use: --adapter {name}"));
    Ok(Status::Done)
}

fn measure(settings: &CriticSettings, suite: &Suite, seed: u64) -> anyhow::Result<ModelReport> {
    let mut critic = critic::open(settings)?;
    let bar = printer::Bar::start(&settings.label(), suite.cases.len());
    let results = run::run(&mut critic, suite, "", None, &mut |done| {
        bar.set(done);
        true
    })?;
    Ok(ModelReport::new(&settings.label(), suite, results, seed))
}

/// The gate against each rival; it is refused where any of them is better.
fn decide(judged: &[(&str, ModelReport)], new: &ModelReport, seed: u64) -> Decision {
    let mut all = Decision { promoted: true, reasons: Vec::new() };
    for (role, rival) in &judged[..judged.len() - 1] {
        // A rival that answered less is no measure; the candidate is compared where both did.
        if rival.failed() > 0 {
            continue;
        }
        let one = gate::decide(&rival.outcomes, &new.outcomes, new.failed(), seed);
        let reasons = one.reasons.iter().map(|it| format!("against {role}: {it}"));
        match (all.promoted, one.promoted) {
            (true, false) => all = Decision { promoted: false, reasons: reasons.collect() },
            (is, was) if is == was => all.reasons.extend(reasons),
            _ => {}
        }
    }
    all
}

fn tell(
    judged: &[(&str, ModelReport)],
    decision: &Decision,
    name: &str,
    json: bool,
) -> anyhow::Result<()> {
    let value = |report: &ModelReport, metric| {
        let value = report.metrics.get(metric);
        if value.is_nan() { "-".into() } else { format!("{value:.3}") }
    };
    if json {
        let rows: Vec<_> = judged
            .iter()
            .map(|(role, it)| {
                json!({ "role": role, "name": it.name, "f1": it.metrics.get(Metric::F1),
                    "fpr": it.metrics.get(Metric::FalsePositiveRate),
                    "ece": it.metrics.get(Metric::Ece), "p95_ms": it.latency_ms[1] })
            })
            .collect();
        return printer::json(&json!({ "name": name, "promoted": decision.promoted,
            "reasons": decision.reasons, "models": rows }));
    }
    let rows: Vec<_> = judged
        .iter()
        .map(|(role, it)| {
            [
                (*role).to_owned(),
                value(it, Metric::F1),
                value(it, Metric::FalsePositiveRate),
                value(it, Metric::Ece),
                format!("{:.1}", it.latency_ms[1]),
                it.name.clone(),
            ]
        })
        .collect();
    printer::data(&printer::table(["CRITIC", "F1", "FPR", "ECE", "P95 MS", "NAME"], &rows))?;
    printer::data(if decision.promoted { "promoted" } else { "not promoted" })?;
    for reason in &decision.reasons {
        printer::data(&format!("  {reason}"))?;
    }
    Ok(())
}

fn history(args: &HistoryArgs, environment: &Environment) -> anyhow::Result<Status> {
    let versions = versions(environment, &args.name)?;
    let (current, changes) = (versions.current()?, versions.history()?);
    if args.json {
        printer::json(&json!({ "name": args.name, "current": current, "changes": changes }))?;
        return Ok(Status::Done);
    }
    if changes.is_empty() {
        let message = format!("there are no versions of `{}`", args.name);
        return Err(Failure::not_found("no-version", message)
            .hint("minicrit adapters promote DIR --name NAME")
            .into());
    }
    let rows: Vec<_> = changes
        .iter()
        .map(|it| {
            let mark = if Some(it.version) == current { "in use" } else { "" };
            [it.time.clone(), it.what.clone(), it.version.to_string(), mark.into(), it.from.clone()]
        })
        .collect();
    printer::data(&printer::table(["TIME", "CHANGE", "VERSION", "", "FROM"], &rows))?;
    Ok(Status::Done)
}

fn roll_back(args: &RollbackArgs, environment: &Environment) -> anyhow::Result<Status> {
    let version = versions(environment, &args.name)?.roll_back(args.to, &now())?;
    let fields = json!({ "name": args.name, "version": version, "rollback": true });
    journal::note_if_failed(journal::record(environment, "promote", fields));
    printer::data(&format!("version {version} of {} is in use", args.name))?;
    Ok(Status::Done)
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}
