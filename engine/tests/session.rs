//! What a session promises besides the right tokens: errors by name, clean cancellation, no work
//! done twice, nothing from damaged logits.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use minicrit_engine::{
    NamedError,
    dist::{SamplingParams, log_probability},
    draft::{Drafter, ModelDrafter},
    session::{Event, FinishReason, Finished, GenerateOptions, Session},
    tokens::{TokenKind, Vocabulary},
};
use minicrit_testkit::{ScriptedModel, scripted::Extend};

const VOCAB_SIZE: usize = 8;

fn vocabulary() -> Arc<Vocabulary> {
    let texts: [&[u8]; 7] = [b"a", b"b", b"\xC3", b"\xA9", b"st", b"op", b"<end>"];
    let kind = |text: &[u8]| if text == b"<end>" { TokenKind::Control } else { TokenKind::Text };
    Arc::new(Vocabulary::new(texts.map(|it| (it.to_vec(), kind(it))).to_vec(), false))
}

fn session(model: &ScriptedModel) -> Session {
    Session::new(Box::new(model.clone()), vocabulary(), None).unwrap()
}

fn speculating(model: &ScriptedModel, draft: &ScriptedModel) -> Session {
    let drafter = Box::new(ModelDrafter::new(Box::new(draft.clone())));
    Session::new(Box::new(model.clone()), vocabulary(), Some(drafter)).unwrap()
}

fn hashed() -> ScriptedModel {
    ScriptedModel::hashed(VOCAB_SIZE, 2, 3, 2.0, 0.25)
}

fn max_tokens(count: usize) -> GenerateOptions {
    GenerateOptions { max_tokens: Some(count), ..GenerateOptions::default() }
}

fn events(session: &mut Session, prompt: &[u32], options: &GenerateOptions) -> Vec<Event> {
    session.generate(prompt, options).unwrap().map(|event| event.unwrap()).collect()
}

fn ids(events: &[Event]) -> Vec<u32> {
    let id = |event: &Event| match event {
        Event::Token { id, .. } => Some(*id),
        _ => None,
    };
    events.iter().filter_map(id).collect()
}

fn texts(events: &[Event]) -> Vec<&str> {
    let mut texts = Vec::new();
    for event in events {
        if let Event::Text { text, .. } = event {
            texts.push(text.as_str());
        }
    }
    texts
}

fn finished(events: &[Event]) -> &Finished {
    match events.last() {
        Some(Event::Done(finished)) => finished,
        other => panic!("the last event is {other:?}"),
    }
}

// ---- Refusals ----

fn refusal(prompt: &[u32], options: &GenerateOptions) -> (&'static str, String) {
    let mut session = session(&hashed().with_context_len(10));
    let error = session.generate(prompt, options).err().expect("a refusal");
    (error.name(), error.to_string())
}

#[test]
fn bad_prompts_are_refused_by_name() {
    let options = GenerateOptions::default();
    assert_eq!(refusal(&[], &options).0, "empty-prompt");
    for len in [10, 11, 500] {
        let (name, message) = refusal(&vec![1; len], &options);
        assert_eq!(name, "context-overflow");
        assert!(message.contains(&len.to_string()) && message.contains("10"), "{message}");
    }
    let (name, message) = refusal(&[1, 2, 8], &options);
    assert_eq!(name, "token-outside-vocabulary");
    assert_eq!(
        message,
        "token 8 at position 2 of the prompt is not below 8, the size of the vocabulary"
    );
}

#[test]
fn bad_settings_are_refused_all_at_once() {
    let sampling = SamplingParams { temperature: f64::NAN, top_p: 2.0, ..SamplingParams::greedy() };
    let options = GenerateOptions { sampling, stop: vec!["".into()], ..GenerateOptions::default() };
    let (name, message) = refusal(&[1], &options);
    assert_eq!(name, "bad-setting");
    for part in ["temperature is NaN", "top_p is 2", "stop is an empty string"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_draft_model_of_another_vocabulary_is_refused() {
    let other = ScriptedModel::hashed(VOCAB_SIZE + 1, 2, 3, 2.0, 0.25);
    let drafter: Box<dyn Drafter> = Box::new(ModelDrafter::new(Box::new(other)));
    let error = Session::new(Box::new(hashed()), vocabulary(), Some(drafter)).err().unwrap();
    assert_eq!(error.name(), "draft-mismatch");
    assert_eq!(error.to_string(), "draft model has a vocabulary of 9, the target one of 8");
}

// ---- Ends ----

#[test]
fn an_end_token_is_a_token_and_not_text() {
    let model = ScriptedModel::reciting(VOCAB_SIZE, &[1], &[0, 1, 6, 0]);
    let options = GenerateOptions { eos_ids: vec![6], ..max_tokens(5) };
    let answer = events(&mut session(&model), &[1], &options);
    assert_eq!(ids(&answer), [0, 1, 6]);
    assert_eq!(texts(&answer), ["a", "b"]);
    assert_eq!(finished(&answer).reason, FinishReason::Stop);

    let on = events(&mut session(&model), &[1], &GenerateOptions { ignore_eos: true, ..options });
    assert_eq!(ids(&on), [0, 1, 6, 0, 0]);
    assert_eq!(texts(&on).concat(), "abaa");
    assert_eq!(finished(&on).reason, FinishReason::Length);
}

#[test]
fn a_stop_string_across_tokens_is_not_shown() {
    let model = ScriptedModel::reciting(VOCAB_SIZE, &[1], &[0, 4, 4, 5, 1]);
    let options = GenerateOptions { stop: vec!["stop".into()], ..max_tokens(9) };
    let answer = events(&mut session(&model), &[1], &options);
    assert_eq!(ids(&answer), [0, 4, 4, 5]);
    assert_eq!(texts(&answer), ["a", "st"]);
    assert_eq!(finished(&answer).reason, FinishReason::StopString("stop".into()));
    assert_eq!(finished(&answer).reason.as_str(), "stop");
}

#[test]
fn what_was_held_back_comes_at_the_end() {
    let model = ScriptedModel::reciting(VOCAB_SIZE, &[1], &[0, 4, 2]);
    let options = GenerateOptions { stop: vec!["stop".into()], ..max_tokens(3) };
    let answer = events(&mut session(&model), &[1], &options);
    assert_eq!(texts(&answer).concat(), "ast\u{FFFD}");
    assert_eq!(finished(&answer).reason.as_str(), "length");
}

#[test]
fn split_characters_come_whole() {
    let model = ScriptedModel::reciting(VOCAB_SIZE, &[1], &[2, 3, 7, 0]);
    let answer = events(&mut session(&model), &[1], &max_tokens(4));
    assert_eq!(texts(&answer), ["é", "a"], "and token 7, which the tokenizer lacks, has no text");
}

#[test]
fn a_full_context_and_no_tokens_are_both_length() {
    let model = hashed().with_context_len(6);
    let full = events(&mut session(&model), &[1, 2], &GenerateOptions::default());
    assert_eq!(ids(&full).len(), 4);
    assert_eq!(finished(&full).reason, FinishReason::ContextFull);
    assert_eq!(finished(&full).reason.as_str(), "length");

    let none = events(&mut session(&model), &[1, 2], &max_tokens(0));
    assert_eq!(none.len(), 1);
    assert_eq!(finished(&none).reason, FinishReason::Length);
}

// ---- Damage ----

#[test]
fn damaged_logits_end_the_answer_before_a_token_comes_of_them() {
    let good = hashed();
    let expect = ids(&events(&mut session(&good), &[1, 2], &max_tokens(9)));
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        // The prompt's own row, and a row in the middle of the answer.
        for (position, said) in [(2, 0), (6, 4)] {
            let damaged = good.clone().damaged(position, value);
            let mut session = session(&damaged);
            let mut answer = session.generate(&[1, 2], &max_tokens(9)).unwrap();
            let mut given = Vec::new();
            let error = loop {
                match answer.next().expect("an error comes first") {
                    Ok(event) => given.push(event),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.name(), "numerics");
            assert!(answer.next().is_none(), "nothing comes after an error");
            drop(answer);
            assert_eq!(ids(&given), expect[..said]);
            assert_eq!(session.tokens(), [&[1, 2], &expect[..said]].concat());
            assert!(session.cached_tokens().is_empty(), "a poisoned cache is met again");
            let short = max_tokens(position.saturating_sub(3));
            assert_eq!(ids(&events(&mut session, &[1, 2], &short)), expect[..said.min(3)]);
        }
    }
}

#[test]
fn damage_in_a_speculated_row_is_found_too() {
    let model = hashed().damaged(4, f32::NAN);
    let mut session = speculating(&model, &hashed());
    let results: Vec<_> = session.generate(&[1, 2], &max_tokens(9)).unwrap().collect();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].as_ref().unwrap_err().name(), "numerics");
}

// ---- Cancelling, and what is kept ----

#[test]
fn a_dropped_answer_leaves_what_was_given_and_no_more() {
    let expect = events(&mut session(&hashed()), &[1, 2], &max_tokens(12));
    for taken in 0..expect.len() {
        let mut session = speculating(&hashed(), &hashed());
        let given: Vec<_> = session
            .generate(&[1, 2], &max_tokens(12))
            .unwrap()
            .take(taken)
            .map(|event| event.unwrap())
            .collect();
        assert_eq!(given[..], expect[..taken]);
        let said = [&[1, 2], &ids(&given)[..]].concat();
        assert_eq!(session.tokens(), said);
        assert!(said.starts_with(session.cached_tokens()));
        // Going on from there is as if nothing had been cut.
        let rest = events(&mut session, &said, &max_tokens(12 - ids(&given).len()));
        assert_eq!([ids(&given), ids(&rest)].concat(), ids(&expect));
    }
}

#[test]
fn plain_decoding_feeds_each_token_once() {
    let model = hashed();
    let calls = model.calls();
    let answer = events(&mut session(&model), &[1, 2, 3], &max_tokens(4));
    let extend = |start, len| Extend { start, len, rows: 1 };
    assert_eq!(
        calls.lock().unwrap().extends,
        [extend(0, 3), extend(3, 1), extend(4, 1), extend(5, 1)]
    );
    assert_eq!(finished(&answer).speculation.target_passes, 4);
    assert_eq!(finished(&answer).speculation.drafted, 0);
}

#[test]
fn a_common_prefix_is_not_computed_again() {
    let model = hashed();
    let calls = model.calls();
    let mut session = session(&model);
    let first = ids(&events(&mut session, &[1, 2, 3], &max_tokens(3)));
    let next = [&[1, 2, 3], &first[..], &[5, 5]].concat();
    let second = events(&mut session, &next, &max_tokens(1));
    assert_eq!(finished(&second).reused_tokens, 5, "the last token was never fed");
    let same = events(&mut session, &next, &max_tokens(1));
    assert_eq!(finished(&same).reused_tokens, 7, "one token is fed for its logits");
    assert_eq!(ids(&same), ids(&second));
    let other = events(&mut session, &[1, 4], &max_tokens(1));
    assert_eq!(finished(&other).reused_tokens, 1);
    let starts: Vec<_> = calls.lock().unwrap().extends.iter().map(|it| it.start).collect();
    assert_eq!(starts, [0, 3, 4, 5, 7, 1]);
}

#[test]
fn a_draft_model_follows_with_as_few_tokens_as_can_be() {
    let (target, draft) = (hashed(), hashed());
    let (target_calls, draft_calls) = (target.calls(), draft.calls());
    let options = GenerateOptions { draft_len: 3, ..max_tokens(8) };
    let answer = events(&mut speculating(&target, &draft), &[1, 2, 3], &options);
    assert_eq!(finished(&answer).speculation.accepted_per_round, [3, 3]);
    let fed = |calls: &[Extend]| calls.iter().map(|it| (it.start, it.len)).collect::<Vec<_>>();
    assert_eq!(fed(&target_calls.lock().unwrap().extends), [(0, 6), (6, 4)]);
    // The last draft and the token after it are new to the draft model in the second round.
    assert_eq!(
        fed(&draft_calls.lock().unwrap().extends),
        [(0, 3), (3, 1), (4, 1), (5, 2), (7, 1), (8, 1)]
    );
}

// ---- Reports ----

#[test]
fn log_probabilities_are_those_of_the_raw_logits() {
    let model = hashed();
    let sampling = SamplingParams { temperature: 0.7, top_k: 3, ..SamplingParams::greedy() };
    let options = GenerateOptions { sampling, logprobs: true, ..max_tokens(6) };
    let mut context = vec![1, 2];
    for event in events(&mut speculating(&model, &hashed()), &[1, 2], &options) {
        if let Event::Token { id, logprob } = event {
            let expect = log_probability(&model.logits_after(&context), id).unwrap();
            assert_eq!(logprob, Some(expect));
            context.push(id);
        }
    }
    assert_eq!(context.len(), 8);
    let without = events(&mut session(&model), &[1], &max_tokens(1));
    assert!(matches!(without[0], Event::Token { logprob: None, .. }));
}

#[test]
fn times_are_in_order() {
    let answer = events(&mut session(&hashed()), &[1, 2], &max_tokens(20));
    let times = finished(&answer).timings;
    assert!(0.0 < times.prompt_ms && times.prompt_ms <= times.ttft_ms && times.decode_ms > 0.0);
}
