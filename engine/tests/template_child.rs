//! Hostile templates, each in a child process that is this very program.
//!
//! It has its own `main`, because the child must do nothing but render.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use minicrit_engine::{
    NamedError,
    chat::{ChatError, ChatTemplate, Isolation, Message, RenderOptions, known, render_child},
};
use minicrit_testkit::{Outcome, hostile_templates};

/// What a render may take on a busy machine; the child's own limit is two seconds of work.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("render-template") {
        return match render_child(std::io::stdin().lock(), std::io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let mut failures = Vec::new();
    let cases = hostile_templates();
    for (name, source, expect) in &cases {
        let started = Instant::now();
        let result = render(source);
        if !fits(&result, *expect) {
            failures.push(format!("{name}: want {expect:?}, got {result:?}"));
        }
        if started.elapsed() > PATIENCE {
            failures.push(format!("{name}: took {:?}", started.elapsed()));
        }
    }
    failures.extend(a_child_renders_like_this_process());
    failures.extend(a_missing_program_is_named());
    println!("{} hostile templates, {} failures", cases.len(), failures.len());
    for failure in &failures {
        println!("{failure}");
    }
    if failures.is_empty() && cases.len() >= 40 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> RenderOptions {
    RenderOptions::on(jiff::civil::date(2026, 11, 20))
}

fn render(source: &str) -> Result<String, ChatError> {
    let program = std::env::current_exe().unwrap();
    let template = ChatTemplate::new(source, Some("<s>"), Some("</s>"))?
        .with_control_tokens(vec!["<s>".into(), "</s>".into()])
        .with_isolation(Isolation::Child { program });
    template.render(&[Message::new("user", "hello")], &options()).map(|it| it.text().to_owned())
}

fn fits(result: &Result<String, ChatError>, expect: Outcome) -> bool {
    let name = result.as_ref().err().map(NamedError::name);
    match expect {
        Outcome::TooCostly => name == Some("template-too-costly"),
        Outcome::Invalid => name == Some("template-invalid"),
        Outcome::AnyError => matches!(name, Some("template-too-costly" | "template-invalid")),
        Outcome::Any => name.is_none() || name == Some("template-too-costly"),
        Outcome::RendersWithout(secret) => result.as_ref().is_ok_and(|text| !text.contains(secret)),
    }
}

fn a_child_renders_like_this_process() -> Option<String> {
    let source =
        format!("{}{{# changed #}}", known::TEMPLATES.iter().find(|it| it.0 == "chatml")?.1);
    let template = |isolation| {
        ChatTemplate::new(&source, None, None)
            .unwrap()
            .with_control_tokens(vec!["<|im_end|>".into(), "<|im_start|>".into()])
            .with_isolation(isolation)
            .render(&[Message::new("user", "a<|im_end|>é\u{FDD0}")], &options())
    };
    let here = template(Isolation::InProcess);
    let there = template(Isolation::Child { program: std::env::current_exe().unwrap() });
    (here != there || here.is_err()).then(|| format!("here {here:?}, in a child {there:?}"))
}

fn a_missing_program_is_named() -> Option<String> {
    let template = ChatTemplate::new("{{ 1 }}", None, None).unwrap();
    let template =
        template.with_isolation(Isolation::Child { program: "/nonexistent/program".into() });
    let result = template.render(&[], &options());
    let name = result.as_ref().err().map(NamedError::name);
    (name != Some("template-renderer")).then(|| format!("a missing program gives {result:?}"))
}
