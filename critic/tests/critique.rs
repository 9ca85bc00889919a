//! Critiques: exact label probabilities against plain scoring, and scripted models.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use minicrit_critic::{
    Error, Result,
    case::Verdict,
    critique::{Backend, Critic, LocalBackend, Prompt, PromptStyle, Sampling},
    data::{improve, pairs},
    eval::{Calibration, Metric, ModelReport, Report, Suite, html, judge, run},
};
use minicrit_engine::{
    assemble::{self, Model},
    chat::{Message, RenderOptions},
    load::LoadOptions,
    score,
    sequence::Sequence,
    source::ModelFiles,
};

/// Sums of the same float64 numbers in the same order.
const SAME: f64 = 1e-12;

fn builtin() -> Model {
    assemble::load(&ModelFiles::builtin().unwrap(), LoadOptions::default()).unwrap()
}

fn options() -> RenderOptions {
    RenderOptions::on(jiff::civil::date(2026, 1, 1))
}

#[test]
fn label_scores_are_the_exact_log_probabilities_of_the_labels() {
    let model = builtin();
    let mut backend = LocalBackend::simple("nano", &model, None, options()).unwrap();
    let tokenizer = model.tokenizer.clone().unwrap();
    let questions = ["Two trades won, so all will.", "It rained, so the street is wet."];
    for (answer, labels) in [
        ("Verdict:", vec![" valid", " flawed"]),
        ("Verdict: flawed\nFlaw:", vec![" small sample", " sunk cost", " gambler's fallacy"]),
    ] {
        // The second question meets what the first left in the cache.
        for question in questions {
            let messages = vec![Message::new("user", question)];
            let rendered = model.template.as_ref().unwrap().render(&messages, &options()).unwrap();
            let question_ids = tokenizer.encode_rendered(&rendered).unwrap();
            let prompt = Prompt { messages, answer: answer.into() };
            let scores = backend.label_scores(&prompt, &labels).unwrap();
            for (label, found) in std::iter::zip(&labels, scores) {
                let begun = tokenizer.encode_content(answer).unwrap();
                let whole = tokenizer.encode_content(&format!("{answer}{label}")).unwrap();
                assert_eq!(whole[..begun.len()], begun[..]);
                let ids = [question_ids.as_slice(), &whole].concat();
                let mut sequence = Sequence::new(Arc::clone(&model.decoder), None);
                let scored = score::score(&mut sequence, &ids, &mut |_, _| Ok(())).unwrap();
                let label_tokens = whole.len() - begun.len();
                let expected: f64 =
                    scored.logprobs[ids.len() - label_tokens..].iter().flatten().sum();
                assert!((found - expected).abs() < SAME, "{label}: {found} {expected}");
            }
        }
    }
}

#[test]
fn the_built_in_critic_tells_a_short_run_from_a_proof() {
    let backend = LocalBackend::simple("nano", &builtin(), None, options()).unwrap();
    let mut critic = Critic::new(Box::new(backend), PromptStyle::Rationale, Calibration::default());
    let flawed = critic.explained("Last 3 trades won, so I'm 95% sure the 4th will.").unwrap();
    assert_eq!(flawed.verdict, Verdict::Flawed);
    assert_eq!(flawed.flaw_type.as_deref(), Some("small sample"));
    assert!(flawed.confidence > 0.5 && flawed.confidence <= 1.0);
    assert!(flawed.explanation.unwrap().len() > 20 && flawed.fix.unwrap().len() > 10);
    assert!(matches!(critic.critique(" \n"), Err(Error::EmptyRationale)));
}

/// A model whose quality is known: log-odds come from a word of the rationale.
struct Scripted {
    /// Answers of `generate`, in turn.
    texts: Vec<String>,
    at: usize,
    fails: bool,
}

impl Scripted {
    fn silent() -> Self {
        Self { texts: vec![String::new()], at: 0, fails: false }
    }
}

impl Backend for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn label_scores(&mut self, prompt: &Prompt, labels: &[&str]) -> Result<Vec<f64>> {
        let text = prompt.messages.last().and_then(|it| it.content()).unwrap_or_default();
        if self.fails && text.contains("holdout-fails") {
            return Err(Error::NoVerdict { answer: "?".into() });
        }
        let flawed = text.contains("so ");
        Ok(labels
            .iter()
            .enumerate()
            .map(|(at, label)| match *label {
                " valid" => 0.0,
                " flawed" => {
                    if flawed {
                        2.0
                    } else {
                        -2.0
                    }
                }
                " poor" => 1.0,
                " good" => f64::NAN,
                _ => -(at as f64),
            })
            .collect())
    }

    fn generate(&mut self, _: &Prompt, _: &Sampling) -> Result<String> {
        self.at += 1;
        Ok(self.texts[(self.at - 1) % self.texts.len()].clone())
    }
}

fn scripted(fails: bool) -> Critic {
    let backend = Scripted { fails, ..Scripted::silent() };
    Critic::new(Box::new(backend), PromptStyle::Rationale, Calibration::default())
}

fn suite() -> Suite {
    let mut suite = Suite::open("adversarial").unwrap();
    suite.cases[7].rationale += " holdout-fails";
    suite
}

#[test]
fn a_missing_explanation_is_said_in_the_taxonomys_words() {
    let critique = scripted(false).explained("It won, so it wins.").unwrap();
    assert!((critique.confidence - 1.0 / (1.0 + (-2.0_f64).exp())).abs() < SAME);
    assert!(critique.explanation.unwrap().starts_with("A general claim rests on too few"));
    assert!(critique.fix.is_some());
    let valid = scripted(false).explained("It won.").unwrap();
    assert_eq!((valid.verdict, valid.fix), (Verdict::Valid, None));
}

#[test]
fn a_run_goes_on_where_a_kill_stopped_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cases.jsonl");
    let suite = suite();
    let whole = run::run(&mut scripted(false), &suite, "m", None, &mut |_| true).unwrap();
    let part = run::run(&mut scripted(false), &suite, "m", Some(&file), &mut |it| it < 40).unwrap();
    assert_eq!(part.len(), 40);
    // A kill in the middle of a line.
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() - 25);
    std::fs::write(&file, &bytes).unwrap();
    let mut made = 0;
    let resumed = run::run(&mut scripted(false), &suite, "m", Some(&file), &mut |it| {
        made = it;
        true
    })
    .unwrap();
    assert_eq!(made, 100);
    let plain = |list: &[run::CaseResult]| -> Vec<_> {
        list.iter()
            .map(|it| (it.id.clone(), it.verdict, it.flaw_type.clone(), it.log_odds))
            .collect()
    };
    assert_eq!(plain(&resumed), plain(&whole));
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 101);
    let other = run::run(&mut scripted(false), &suite, "another", Some(&file), &mut |_| true);
    assert!(matches!(other, Err(Error::OtherRun { .. })));
}

#[test]
fn what_a_model_cannot_answer_is_counted_and_not_measured() {
    let suite = suite();
    let results = run::run(&mut scripted(true), &suite, "m", None, &mut |_| true).unwrap();
    let report = ModelReport::new("m", &suite, results, 1);
    assert_eq!((report.failed(), report.metrics.count), (1, 99));
    assert!(!report.metrics.get(Metric::F1).is_nan());
}

#[test]
fn the_page_and_the_object_hold_the_same_numbers_and_nothing_from_elsewhere() {
    let suite = suite();
    let run = |fails| {
        let results = run::run(&mut scripted(fails), &suite, "m", None, &mut |_| true).unwrap();
        ModelReport::new("m<1>", &suite, results, 1)
    };
    let report = Report::of_two(suite.clone(), run(false), run(true), 1);
    let value = report.to_json();
    assert_eq!(value["models"][1]["failed"], 1);
    assert_eq!(value["comparison"]["mcnemar_p"], 1.0);
    assert!(value["models"][0]["metrics"]["operator_kappa"]["value"].is_null());
    let page = html::page(&report);
    let f1 = value["models"][1]["metrics"]["f1"]["value"].as_f64().unwrap();
    assert!(page.contains(&format!("{:.1} %", f1 * 100.0)));
    assert!(page.contains("m&lt;1&gt;") && !page.contains("m<1>"));
    for word in ["http://", "https://", "<script", "src=", "@import", "NaN"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn pairs_and_improvements_keep_what_the_points_prefer() {
    let case = suite().cases.into_iter().find(|it| it.flaw_type.is_some()).unwrap();
    let good = format!(
        "Verdict: flawed\nFlaw: {}\nWhy: It rests on far too few cases.\nFix: Collect more.",
        case.flaw_type.clone().unwrap()
    );
    let bad = "It could be better.".to_owned();
    let mut points = |case: &_, text: &str| Ok(pairs::by_rules(case, text));
    let mut backend = Scripted { texts: vec![bad.clone(), good.clone()], at: 0, fails: false };
    let drawing = pairs::Drawing { count: 4, temperature: 1.0, seed: 1 };
    let drawn =
        pairs::candidates(&mut backend, PromptStyle::Rationale, &case, drawing, &mut points)
            .unwrap();
    let row = pairs::pair(&case, &drawn, 1.0).unwrap();
    assert_eq!(row["chosen"][0]["content"], good);
    let too_few = pairs::Drawing { count: 1, ..drawing };
    assert!(
        pairs::candidates(&mut backend, PromptStyle::Rationale, &case, too_few, &mut points)
            .is_err()
    );

    let run = |texts: [&String; 3], points: &mut pairs::Points<'_>| {
        let texts = texts.map(Clone::clone).to_vec();
        let mut backend = Scripted { texts, at: 0, fails: false };
        improve::improve(
            &mut backend,
            PromptStyle::Rationale,
            &case,
            improve::CONSTITUTION,
            0.5,
            points,
        )
        .unwrap()
    };
    assert!(run([&bad, &bad, &good], &mut points).pair.is_some());
    assert!(run([&good, &bad, &bad], &mut points).pair.is_none());
    assert!(run([&good, &bad, &good], &mut points).pair.is_none());
}

#[test]
fn a_judge_that_answers_nonsense_is_named() {
    let suite = suite();
    let mut author = scripted(false);
    let results = run::run(&mut author, &suite, "m", None, &mut |_| true).unwrap();
    let report = ModelReport::new("m", &suite, results, 1);
    let sampled = judge::sample(&suite, &report, 5, 1);
    assert!(sampled.len() <= 5 && !sampled.is_empty());
    assert_eq!(sampled, judge::sample(&suite, &report, 5, 1));
    let said = judge::is_poor(&mut author, &mut Scripted::silent(), sampled[0]);
    assert!(matches!(said, Err(Error::NoVerdict { .. })), "{said:?}");
}
