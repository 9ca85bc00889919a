//! The whole path on trained and on reference weights: speculation by real draft models, and the
//! built-in model against transformers.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use minicrit_engine::{
    assemble,
    chat::{Message, RenderOptions},
    draft::{Drafter, ModelDrafter, NgramDrafter},
    model::Decoder,
    sequence::Sequence,
    session::{Event, FinishReason, GenerateOptions, Session},
    source::ModelFiles,
    tokens::Vocabulary,
};
use minicrit_testkit::{
    draft_cases::{check_draft_case, draft_cases},
    fixtures::{Fixture, GREEDY_MARGIN, read_json},
    fixtures_dir,
};
use serde_json::Value;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn a_draft_model_takes_the_passes_that_the_reference_counts() {
    let target = Arc::new(Fixture::open("qwen2").decoder());
    let draft = Arc::new(Fixture::open("qwen2-draft").decoder());
    let cases = draft_cases(&fixtures_dir());
    assert!(cases.len() >= 8, "{} cases", cases.len());
    for (case, prompt) in cases {
        let sequence = |decoder: &Arc<Decoder>| Box::new(Sequence::new(decoder.clone(), None));
        check_draft_case(&case, &prompt, sequence(&target), sequence(&draft));
    }
}

fn answer(decoder: &Arc<Decoder>, drafter: Option<Box<dyn Drafter>>, prompt: &[u32]) -> Vec<u32> {
    let vocabulary = Arc::new(Vocabulary::new(Vec::new(), false));
    let target = Box::new(Sequence::new(decoder.clone(), None));
    let mut session = Session::new(target, vocabulary, drafter).unwrap();
    let options = GenerateOptions { max_tokens: Some(48), draft_len: 5, ..Default::default() };
    let events = session.generate(prompt, &options).unwrap();
    events
        .filter_map(|event| match event.unwrap() {
            Event::Token { id, .. } => Some(id),
            _ => None,
        })
        .collect()
}

/// The rope of the last two changes its frequencies on the way.
#[test]
fn greedy_answers_are_the_same_with_any_drafter() {
    for name in ["qwen2", "qwen3-moe", "mistral", "phi3-longrope", "llama-dynamic"] {
        let fixture = Fixture::open(name);
        let decoder = Arc::new(fixture.decoder());
        for key in ["ids_5", "ids_40"] {
            let prompt = fixture.ids(key);
            let plain = answer(&decoder, None, &prompt);
            assert_eq!(plain.len(), 48);
            let itself = Sequence::new(decoder.clone(), None);
            let twin =
                answer(&decoder, Some(Box::new(ModelDrafter::new(Box::new(itself)))), &prompt);
            assert_eq!(twin, plain, "{name} {key} drafted by itself");
            let copied = answer(&decoder, Some(Box::new(NgramDrafter::default())), &prompt);
            assert_eq!(copied, plain, "{name} {key} drafted by n-grams");
        }
    }
}

#[test]
fn the_built_in_model_answers_as_in_transformers() {
    let files = ModelFiles::builtin().unwrap();
    let model = assemble::load(&files).unwrap();
    let tokenizer = model.tokenizer.clone().unwrap();
    let template = model.template.clone().unwrap();
    let expected = read_json(&fixtures_dir().join("../../models/nano/expected.json"));
    for case in expected["cases"].as_array().unwrap() {
        let messages = Message::list(&case["messages"]).unwrap();
        let today = "2026-11-20".parse().unwrap();
        let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::on(today) };
        let rendered = template.render(&messages, &options).unwrap();
        assert_eq!(rendered.text(), case["rendered"].as_str().unwrap());
        let prompt = tokenizer.encode_rendered(&rendered).unwrap();
        assert_eq!(prompt, ids(&case["prompt_ids"]), "{}", rendered.text());
        assert!(case["min_margin"].as_f64().unwrap() > GREEDY_MARGIN);

        let want = ids(&case["greedy_ids"]);
        let target = Box::new(Sequence::new(model.decoder.clone(), None));
        let mut session = Session::new(target, tokenizer.vocabulary().clone(), None).unwrap();
        let options = GenerateOptions {
            max_tokens: Some(want.len()),
            eos_ids: model.generation.eos_ids.clone(),
            ..Default::default()
        };
        let (mut got, mut reason) = (Vec::new(), None);
        for event in session.generate(&prompt, &options).unwrap() {
            match event.unwrap() {
                Event::Token { id, .. } => got.push(id),
                Event::Text { .. } => {}
                Event::Done(finished) => reason = Some(finished.reason),
            }
        }
        assert_eq!(got, want, "{}", rendered.text());
        assert_eq!(reason, Some(FinishReason::Stop), "{} ends its turn", rendered.text());
    }
}
