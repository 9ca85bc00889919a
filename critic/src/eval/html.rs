//! A report as one page: no script, no font and no picture from elsewhere.

use std::fmt::Write;

use super::{
    Metric, ModelReport, Report,
    svg::{self, escape},
};

/// Wrong cases that are shown.
const SHOWN_ERRORS: usize = 60;

const STYLE: &str = "\
:root{--bg:#fbfaf8;--card:#fff;--ink:#22211f;--soft:#6d6a65;--line:#e4e1db;--a:#9aa3ad;--b:#0f766e;--bad:#b4432f;--cell:15,118,110}
@media(prefers-color-scheme:dark){:root{--bg:#171614;--card:#201f1c;--ink:#ece9e3;--soft:#a29d94;--line:#35332e;--a:#6b7480;--b:#2dd4bf;--bad:#f08a75;--cell:45,212,191}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 24px 64px}h1{font-size:26px;margin:0 0 4px}h2{font-size:17px;margin:0 0 12px}
p{margin:0 0 10px}.soft{color:var(--soft)}section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:20px;margin-top:20px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin-top:20px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}.tile b{display:block;font-size:26px;font-weight:600;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:13px}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 10px;border-bottom:1px solid var(--line);vertical-align:top}th{font-weight:600;color:var(--soft);font-size:13px}
td.n,th.n{text-align:right;white-space:nowrap}.pair{display:grid;grid-template-columns:1fr 1fr;gap:20px}@media(max-width:760px){.pair{grid-template-columns:1fr}}
svg{max-width:100%;height:auto;display:block}svg text{fill:var(--ink);font:12px system-ui,sans-serif}svg .s{fill:var(--soft)}.scroll{overflow-x:auto}
.tag{display:inline-block;border:1px solid var(--line);border-radius:99px;padding:0 9px;font-size:12px;color:var(--bad);white-space:nowrap}details summary{cursor:pointer}";

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let names: Vec<&str> = report.models.iter().map(|it| it.name.as_str()).collect();
    let title = format!("{} on {}", names.join(" and "), report.suite.name);
    let title = escape(&title);
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style><main>"
    );
    let subject = report.subject();
    let _ = write!(
        out,
        "<h1>{}</h1><p class=\"soft\">{} cases of <b>{}</b>, of which {} are valid{}. Intervals hold 95 % of {} bootstrap samples.</p>",
        escape(&subject.name),
        report.suite.cases.len(),
        escape(&report.suite.name),
        report.suite.cases.iter().filter(|it| it.flaw_type.is_none()).count(),
        if subject.failed() > 0 {
            format!("; {} got no answer", subject.failed())
        } else {
            String::new()
        },
        super::intervals::SAMPLES,
    );
    tiles(&mut out, subject);
    metrics(&mut out, report);
    if report.models.len() == 2 {
        let _ = write!(
            out,
            "<section><h2>Before and after</h2>{}</section>",
            svg::bars(&report.models[0], &report.models[1])
        );
    }
    let _ = write!(
        out,
        "<div class=\"pair\"><section><h2>Is its confidence deserved?</h2><p class=\"soft\">On the diagonal, what it is 80 % sure of is right 80 % of the time. A dot's size is the number of cases.</p>{}</section><section><h2>Right answers by kind of case</h2>{}</section></div>",
        svg::reliability(&report.models),
        groups(subject, report),
    );
    let _ = write!(
        out,
        "<section><h2>Which flaw was taken for which</h2><p class=\"soft\">Rows are the truth, columns what the critic said. Colour is the share of the row.</p><div class=\"scroll\">{}</div></section>",
        svg::confusion(&subject.confusion)
    );
    errors(&mut out, report);
    out.push_str("</main></html>\n");
    out
}

fn tiles(out: &mut String, model: &ModelReport) {
    out.push_str("<div class=\"tiles\">");
    let shown = [
        (Metric::F1, "F1"),
        (Metric::FalsePositiveRate, "false positives among valid"),
        (Metric::Recall, "flaws found"),
        (Metric::FlawAccuracy, "of them named rightly"),
        (Metric::Ece, "calibration error"),
    ];
    for (metric, label) in shown {
        let value = percent(model.metrics.get(metric));
        let _ = write!(out, "<div class=\"tile\"><b>{value}</b><span>{label}</span></div>");
    }
    let p95 = model.latency_ms[1];
    let value = if p95.is_nan() { "–".into() } else { format!("{p95:.1} ms") };
    let _ = write!(
        out,
        "<div class=\"tile\"><b>{value}</b><span>a verdict, 95th percentile</span></div></div>"
    );
}

fn metrics(out: &mut String, report: &Report) {
    out.push_str("<section><h2>Numbers</h2><table><tr><th>Metric</th>");
    for model in &report.models {
        let name = escape(&model.name);
        let _ = write!(out, "<th class=\"n\">{name}</th><th class=\"n\">95 % interval</th>");
    }
    if report.comparison.is_some() {
        out.push_str("<th class=\"n\">difference</th><th class=\"n\">p</th>");
    }
    out.push_str("</tr>");
    for metric in Metric::ALL {
        if report.models.iter().all(|it| it.metrics.get(metric).is_nan()) {
            continue;
        }
        let arrow = if metric.higher_is_better() { "↑" } else { "↓" };
        let _ = write!(out, "<tr><td>{} <span class=\"soft\">{arrow}</span></td>", metric.name());
        for model in &report.models {
            let (value, interval) = model.metric(metric);
            let _ = write!(
                out,
                "<td class=\"n\">{}</td><td class=\"n soft\">{} – {}</td>",
                fixed(value),
                fixed(interval.low),
                fixed(interval.high)
            );
        }
        if let Some(d) = report.comparison.as_ref().and_then(|it| it.get(metric)) {
            let _ =
                write!(out, "<td class=\"n\">{:+.3}</td><td class=\"n\">{:.4}</td>", d.value, d.p);
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>");
    if let Some(it) = &report.comparison {
        let _ = write!(
            out,
            "<p class=\"soft\" style=\"margin-top:12px\">Only the first was right in {} cases, only the second in {}; McNemar's test: p = {:.4}.</p>",
            it.only_first, it.only_second, it.mcnemar_p
        );
    }
    out.push_str("</section>");
}

fn groups(model: &ModelReport, report: &Report) -> String {
    let mut out = String::from(
        "<table><tr><th>Kind</th><th class=\"n\">right</th><th class=\"n\">of</th><th class=\"n\">share</th></tr>",
    );
    let by_kind = model.accuracy_by(&report.suite, |it| it.kind.clone());
    let by_domain = model.accuracy_by(&report.suite, |it| it.domain.clone());
    for (name, (right, count)) in by_kind.into_iter().chain(by_domain) {
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"n\">{right}</td><td class=\"n\">{count}</td><td class=\"n\">{}</td></tr>",
            escape(&name),
            percent(right as f64 / count as f64)
        );
    }
    out + "</table>"
}

fn errors(out: &mut String, report: &Report) {
    let subject = report.subject();
    let errors = subject.errors(&report.suite);
    let _ = write!(out, "<section><h2>Errors ({})</h2>", errors.len());
    if errors.is_empty() {
        out.push_str("<p class=\"soft\">None.</p></section>");
        return;
    }
    out.push_str("<div class=\"scroll\"><table><tr><th>Error</th><th>Truth</th><th>Said</th><th>Rationale</th></tr>");
    for (kind, case) in errors.iter().take(SHOWN_ERRORS) {
        let said = subject.results.iter().find(|it| it.id == case.id);
        let said =
            said.and_then(|it| Some(it.flaw_type.as_deref().unwrap_or(it.verdict?.as_str())));
        let _ = write!(
            out,
            "<tr><td><span class=\"tag\">{}</span></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            kind.name().replace('_', " "),
            escape(case.flaw_type.as_deref().unwrap_or("valid")),
            escape(said.unwrap_or("–")),
            escape(&case.rationale)
        );
    }
    out.push_str("</table></div>");
    if errors.len() > SHOWN_ERRORS {
        let _ = write!(out, "<p class=\"soft\">and {} more</p>", errors.len() - SHOWN_ERRORS);
    }
    out.push_str("</section>");
}

fn percent(value: f64) -> String {
    if value.is_nan() { "–".into() } else { format!("{:.1} %", value * 100.0) }
}

fn fixed(value: f64) -> String {
    if value.is_nan() { "–".into() } else { format!("{value:.3}") }
}
