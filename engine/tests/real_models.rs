//! The whole path on trained and on reference weights: speculation by real draft models, and the
//! built-in model against transformers.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use minicrit_engine::{
    assemble,
    chat::{Message, RenderOptions},
    draft::{Drafter, ModelDrafter, NgramDrafter},
    language_model::LanguageModel,
    load::{LoadOptions, load_decoder_with},
    model::Decoder,
    score::{argmax, log_probability},
    sequence::Sequence,
    session::{Event, FinishReason, GenerateOptions, Session},
    source::ModelFiles,
    tokens::Vocabulary,
};
use minicrit_quant::PackedKind;
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

/// Mean Kullback-Leibler divergence of the packed built-in model from the stored one, in nats, over
/// the held-out chats; and how often both prefer the same token.
fn divergence(kind: PackedKind) -> (f64, f64) {
    let files = ModelFiles::builtin().unwrap();
    let stored = assemble::load(&files, LoadOptions::default()).unwrap();
    let packed = load_decoder_with(&files, LoadOptions { quantize: Some(kind.into()) }).unwrap();
    let packed = Arc::new(packed);
    let path = fixtures_dir().join("../../models/nano/heldout.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut rows, mut same, mut total) = (0.0, 0.0, 0.0);
    for line in text.lines().take(20) {
        let chat: Value = serde_json::from_str(line).unwrap();
        let messages = Message::list(&chat["messages"]).unwrap();
        let options = RenderOptions::on("2026-11-20".parse().unwrap());
        let rendered = stored.template.as_ref().unwrap().render(&messages, &options).unwrap();
        let ids = stored.tokenizer.as_ref().unwrap().encode_rendered(&rendered).unwrap();
        let logits = |decoder: &Arc<Decoder>| {
            Sequence::new(decoder.clone(), None).extend(&ids, ids.len()).unwrap()
        };
        let (p, q) = (logits(&stored.decoder), logits(&packed));
        for row in 0..ids.len() {
            let (p, q) = (p.row(row), q.row(row));
            same += f64::from(argmax(p) == argmax(q));
            // Of a row's log-probabilities the logit apart is one number, so one suffices.
            let offset = |row: &[f32]| log_probability(row, 0) - f64::from(row[0]);
            let (p_offset, q_offset) = (offset(p), offset(q));
            total += p
                .iter()
                .zip(q)
                .map(|(&p, &q)| (f64::from(p) + p_offset, f64::from(q) + q_offset))
                .map(|(p, q)| p.exp() * (p - q))
                .sum::<f64>();
            rows += 1.0;
        }
    }
    (total / rows, same / rows)
}

/// Bounds are a fifth above the divergence measured on these weights (q8 0.000198, q4 0.00416 nats),
/// and just below the agreement (q8 99.2 %, q4 96.5 %).
#[test]
fn packed_weights_stay_close_to_the_stored_ones() {
    for (kind, most_divergence, least_agreement) in
        [(PackedKind::Q8, 0.000_24, 0.99), (PackedKind::Q4, 0.005, 0.95)]
    {
        let (divergence, agreement) = divergence(kind);
        assert!(divergence < most_divergence, "{kind:?}: {divergence} nats, same {agreement}");
        assert!(agreement > least_agreement, "{kind:?}: {divergence} nats, same {agreement}");
    }
}

#[test]
fn the_built_in_model_answers_as_in_transformers() {
    let files = ModelFiles::builtin().unwrap();
    let model = assemble::load(&files, LoadOptions::default()).unwrap();
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
