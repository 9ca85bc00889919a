//! Speculation changes nothing but the speed: sampled answers keep the target's distribution,
//! greedy ones their bytes.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use minicrit_engine::{
    Result,
    dist::{Dist, History, SamplingParams},
    draft::{Draft, Drafter, ModelDrafter, NgramDrafter},
    language_model::LanguageModel,
    rng::{Purpose, Rng},
    session::{Event, FinishReason, GenerateOptions, Session},
    speculate::{Verdict, verify},
    tokens::{TokenKind, Vocabulary},
};
use minicrit_testkit::{
    ScriptedModel,
    draft_cases::{check_draft_case, draft_cases},
};
use proptest::prelude::*;

// ---- Sampled answers ----

/// Models so small that the probability of every answer can be enumerated. Answers are longer than
/// the drafts, since else a wrong token after the last draft would never be seen.
struct Toy {
    vocab_size: usize,
    answer_len: usize,
    draft_len: usize,
}

const TOYS: [Toy; 3] = [
    Toy { vocab_size: 16, answer_len: 3, draft_len: 1 },
    Toy { vocab_size: 16, answer_len: 3, draft_len: 2 },
    Toy { vocab_size: 6, answer_len: 5, draft_len: 4 },
];
const PROMPT: [u32; 3] = [1, 4, 1];

impl Toy {
    fn target(&self) -> ScriptedModel {
        ScriptedModel::hashed(self.vocab_size, 5, 3, 2.0, 0.125)
    }

    /// The target with noise: right often, not always.
    fn draft(&self) -> ScriptedModel {
        let (target, noise) =
            (self.target(), ScriptedModel::hashed(self.vocab_size, 9, 2, 1.0, 0.125));
        ScriptedModel::new(self.vocab_size, move |context| {
            let (target, noise) = (row(&target, context), row(&noise, context));
            target.iter().zip(noise).map(|(target, noise)| target + noise).collect()
        })
    }

    /// Every stage of the chain is in use, and two of them look at what was said.
    fn params(&self, seed: u64) -> SamplingParams {
        SamplingParams {
            temperature: 0.9,
            top_k: 5,
            top_p: 0.95,
            min_p: 0.03,
            repetition_penalty: 1.4,
            presence_penalty: 0.8,
            seed,
            ..SamplingParams::greedy()
        }
    }

    /// The probability of each answer, by [`Toy::cell`].
    fn exact(&self) -> Vec<f64> {
        let mut answers = vec![0.0; self.vocab_size.pow(self.answer_len as u32)];
        let mut open = vec![(PROMPT.to_vec(), 1.0)];
        let (model, params) = (self.target(), self.params(0));
        while let Some((context, probability)) = open.pop() {
            if context.len() == PROMPT.len() + self.answer_len {
                answers[self.cell(&context[PROMPT.len()..])] += probability;
                continue;
            }
            let history = History::new(&context, PROMPT.len());
            let dist = Dist::new(&row(&model, &context), &params, history).unwrap();
            for id in (0..self.vocab_size as u32).filter(|&id| dist.probability(id) > 0.0) {
                open.push(([&context[..], &[id]].concat(), probability * dist.probability(id)));
            }
        }
        answers
    }

    fn cell(&self, answer: &[u32]) -> usize {
        answer.iter().fold(0, |cell, &id| cell * self.vocab_size + id as usize)
    }

    /// How far `sampler`'s answers to seeds from `first` on are from the exact distribution.
    fn z_score(&self, first: u64, samples: u64, mut sampler: impl FnMut(u64) -> Vec<u32>) -> f64 {
        let exact = self.exact();
        let mut counts = vec![0u64; exact.len()];
        for seed in first..first + samples {
            counts[self.cell(&sampler(seed))] += 1;
        }
        chi_square_z(&counts, &exact, samples as f64)
    }

    /// The engine itself: one session, used again and again.
    fn session(&self, target: ScriptedModel) -> impl FnMut(u64) -> Vec<u32> {
        let drafter = Box::new(ModelDrafter::new(Box::new(self.draft())));
        let vocabulary = Arc::new(Vocabulary::new(Vec::new(), false));
        let mut session = Session::new(Box::new(target), vocabulary, Some(drafter)).unwrap();
        let options = GenerateOptions {
            max_tokens: Some(self.answer_len),
            draft_len: self.draft_len,
            ..GenerateOptions::default()
        };
        let sampling = self.params(0);
        move |seed| {
            let sampling = SamplingParams { seed, ..sampling.clone() };
            let options = GenerateOptions { sampling, ..options.clone() };
            session.generate(&PROMPT, &options).unwrap().for_each(|event| drop(event.unwrap()));
            session.tokens()[PROMPT.len()..].to_vec()
        }
    }
}

fn row(model: &ScriptedModel, context: &[u32]) -> Vec<f32> {
    model.logits_after(context)
}

/// The chi-square statistic in standard deviations from its mean. Cells that expect fewer than
/// five answers are taken together; an answer that should not exist is infinitely far.
fn chi_square_z(counts: &[u64], exact: &[f64], samples: f64) -> f64 {
    let mut cells = Vec::new();
    let mut rare = (0.0, 0.0);
    for (&count, &probability) in counts.iter().zip(exact) {
        if probability == 0.0 && count > 0 {
            return f64::INFINITY;
        }
        if probability * samples < 5.0 {
            rare = (rare.0 + count as f64, rare.1 + probability);
        } else {
            cells.push((count as f64, probability));
        }
    }
    if rare.1 > 0.0 {
        cells.push(rare);
    }
    let statistic: f64 = cells
        .iter()
        .map(|(count, probability)| {
            (count - samples * probability).powi(2) / (samples * probability)
        })
        .sum();
    let r = cells.len() as f64;
    let inverse: f64 = cells.iter().map(|(_, probability)| 1.0 / probability).sum();
    let variance = 2.0 * (r - 1.0) + (inverse - r * r - 2.0 * r + 2.0) / samples;
    (statistic - (r - 1.0)) / variance.sqrt()
}

fn check_engine(toy: &Toy, rounds: u64, samples: u64) {
    let mut sampler = toy.session(toy.target());
    for round in 0..rounds {
        let z = toy.z_score(round * samples, samples, &mut sampler);
        assert!(z.abs() < 4.0, "{} drafts, round {round} of {samples}: z {z}", toy.draft_len);
    }
}

#[test]
fn sampled_speculation_has_the_targets_distribution() {
    // `MINICRIT_PROOF=full` takes minutes; the short form catches every planted bug below.
    let full = std::env::var("MINICRIT_PROOF").is_ok_and(|it| it == "full");
    for toy in &TOYS {
        if full {
            check_engine(toy, 20, 200_000);
        } else {
            check_engine(toy, 3, 20_000);
            check_engine(toy, 1, 40_000);
        }
    }
}

/// What could be wrong with speculation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    None,
    /// The draft's distribution before the filters is taken for the one it was drawn from.
    RawDraftProbability,
    /// The first draft is kept unseen.
    FirstDraftUnverified,
    /// A rejected draft is replaced from the target's distribution, not from the residual.
    NoResidual,
    /// The token after the last draft comes from the draft model.
    BonusFromDraft,
    /// The target's cache still holds what was rejected.
    StaleCache,
    /// Penalties still count what was rejected.
    PenaltyOfRejected,
}

#[test]
fn planted_bugs_are_far_from_the_targets_distribution() {
    const SAMPLES: u64 = 5_000;
    for toy in &TOYS {
        let good = toy.z_score(0, SAMPLES, |seed| plain_loop(toy, seed, Bug::None));
        assert!(good.abs() < 4.0, "{} drafts: z {good} without a bug", toy.draft_len);
        for bug in [
            Bug::RawDraftProbability,
            Bug::FirstDraftUnverified,
            Bug::NoResidual,
            Bug::BonusFromDraft,
            Bug::StaleCache,
            Bug::PenaltyOfRejected,
        ] {
            let z = toy.z_score(0, SAMPLES, |seed| plain_loop(toy, seed, bug));
            assert!(z > 20.0, "{} drafts, {bug:?}: only z {z}", toy.draft_len);
        }
        let stale = toy.target().stale_after_truncation();
        let z = toy.z_score(0, SAMPLES, toy.session(stale));
        assert!(z > 20.0, "{} drafts, a session on a stale model: only z {z}", toy.draft_len);
    }
}

/// A decode loop in its plainest form, with room for each bug.
fn plain_loop(toy: &Toy, seed: u64, bug: Bug) -> Vec<u32> {
    let (rng, params) = (Rng::new(seed), toy.params(seed));
    let (draft_model, mut target) = (toy.draft(), toy.target());
    if bug == Bug::StaleCache {
        target = target.stale_after_truncation();
    }
    let dist_of = |logits: &[f32], params: &SamplingParams, tokens: &[u32]| {
        Dist::new(logits, params, History::new(tokens, PROMPT.len())).unwrap()
    };
    let mut context = PROMPT.to_vec();
    let mut rejected = Vec::new();
    while context.len() < PROMPT.len() + toy.answer_len {
        let base = context.len();
        let mut extended = context.clone();
        let mut drafts = Vec::new();
        for _ in 0..toy.draft_len {
            let logits = row(&draft_model, &extended);
            let drawn = dist_of(&logits, &params, &extended);
            let id = drawn.sample(rng.uniform(extended.len() as u64, Purpose::Draft));
            let raw = SamplingParams { temperature: 1.0, ..SamplingParams::greedy() };
            let reported = match bug {
                Bug::RawDraftProbability => dist_of(&logits, &raw, &extended),
                _ => drawn,
            };
            drafts.push(Draft { id, dist: Some(reported) });
            extended.push(id);
        }
        let fed = target.tokens().len();
        let logits = target.extend(&extended[fed..], drafts.len() + 1).unwrap();
        let wanted: Vec<Dist> = (0..=drafts.len())
            .map(|at| {
                let mut said = extended[..base + at].to_vec();
                said.extend(&rejected);
                dist_of(logits.row(at), &params, &said)
            })
            .collect();
        let after_drafts = dist_of(&row(&draft_model, &extended), &params, &extended);
        let verdict = judge(bug, &drafts, &wanted, &after_drafts, &rng, base);
        if bug == Bug::PenaltyOfRejected {
            rejected.extend(drafts[verdict.accepted..].iter().map(|it| it.id));
        }
        extended.truncate(base + verdict.accepted);
        target.truncate(extended.len());
        context = extended;
        context.push(verdict.next);
    }
    context[PROMPT.len()..PROMPT.len() + toy.answer_len].to_vec()
}

fn judge(
    bug: Bug,
    drafts: &[Draft],
    wanted: &[Dist],
    after_drafts: &Dist,
    rng: &Rng,
    base: usize,
) -> Verdict {
    let right = verify(drafts, wanted, rng, base);
    let sample = rng.uniform((base + drafts.len()) as u64, Purpose::Sample);
    match bug {
        Bug::FirstDraftUnverified => {
            let rest = verify(&drafts[1..], &wanted[1..], rng, base + 1);
            Verdict { accepted: rest.accepted + 1, ..rest }
        }
        Bug::NoResidual if right.accepted < drafts.len() => {
            let at = (base + right.accepted) as u64;
            let next = wanted[right.accepted].sample(rng.uniform(at, Purpose::Residual));
            Verdict { next, ..right }
        }
        Bug::BonusFromDraft if right.accepted == drafts.len() => {
            Verdict { next: after_drafts.sample(sample), ..right }
        }
        _ => right,
    }
}

// ---- Greedy answers ----

/// Tokens that share letters and split a character, so that stop strings and text cross borders.
fn vocabulary() -> Arc<Vocabulary> {
    let texts: [&[u8]; 10] =
        [b"a", b"b", b"ab", b"ba", b"\n", b" a", b"\xC3", b"\xA9", b"c\n", b"<end>"];
    let kind = |text: &[u8]| if text == b"<end>" { TokenKind::Control } else { TokenKind::Text };
    Arc::new(Vocabulary::new(texts.map(|it| (it.to_vec(), kind(it))).to_vec(), false))
}

const VOCAB_SIZE: usize = 12;

/// Proposes what it was told to, whatever the context.
struct Babbler {
    seed: u64,
    with_false_dist: bool,
}

impl Drafter for Babbler {
    fn vocab_size(&self) -> Option<usize> {
        None
    }

    fn begin(&mut self, _prompt_len: usize, _params: &SamplingParams) {}

    fn draft(&mut self, context: &[u32], k: usize) -> Result<Vec<Draft>> {
        let draw = |at: usize| Rng::new(self.seed).uniform(at as u64, Purpose::Draft);
        // More than asked for, and ids that no model has: neither may do harm.
        let ids = (0..k + 2).map(|it| (draw(context.len() + it) * 14.0) as u32);
        let dist = self.with_false_dist.then(|| Dist::certain(0));
        Ok(ids.map(|id| Draft { id, dist: dist.clone() }).collect())
    }
}

/// Knows the right answer and always gives another.
struct Adversary(ModelDrafter);

impl Drafter for Adversary {
    fn vocab_size(&self) -> Option<usize> {
        self.0.vocab_size()
    }

    fn begin(&mut self, prompt_len: usize, params: &SamplingParams) {
        self.0.begin(prompt_len, params);
    }

    fn draft(&mut self, context: &[u32], k: usize) -> Result<Vec<Draft>> {
        let right = self.0.draft(context, k)?;
        let wrong = |id| (id + 1) % VOCAB_SIZE as u32;
        Ok(right.into_iter().map(|it| Draft { id: wrong(it.id), dist: None }).collect())
    }
}

fn drafters(target: &ScriptedModel, seed: u64) -> Vec<(&'static str, Box<dyn Drafter>)> {
    let model = |model: ScriptedModel| ModelDrafter::new(Box::new(model));
    let small = ScriptedModel::hashed(VOCAB_SIZE, seed, 2, 2.0, 0.5).with_context_len(16);
    vec![
        ("the target itself", Box::new(model(target.clone()))),
        ("a shorter model", Box::new(model(small))),
        ("a stale target", Box::new(model(target.clone().stale_after_truncation()))),
        ("an adversary", Box::new(Adversary(model(target.clone())))),
        ("a babbler", Box::new(Babbler { seed, with_false_dist: false })),
        ("a liar", Box::new(Babbler { seed, with_false_dist: true })),
        ("n-grams", Box::new(NgramDrafter::default())),
    ]
}

/// All that a caller can see of an answer, apart from times and counts.
#[derive(Debug, PartialEq)]
struct Answer {
    ids: Vec<u32>,
    logprobs: Vec<Option<f64>>,
    text: String,
    reason: FinishReason,
}

fn answer(session: &mut Session, prompt: &[u32], options: &GenerateOptions) -> Answer {
    let (mut ids, mut logprobs, mut text, mut done) = (vec![], vec![], String::new(), None);
    for event in session.generate(prompt, options).unwrap() {
        assert!(done.is_none(), "an event after the last");
        match event.unwrap() {
            Event::Token { id, logprob } => {
                ids.push(id);
                logprobs.push(logprob);
            }
            Event::Text { text: piece, .. } => text.push_str(&piece),
            Event::Done(finished) => done = Some(finished),
        }
    }
    let finished = done.expect("an answer ends with Done");
    assert_eq!(finished.generated_tokens, ids.len());
    assert_eq!(session.tokens(), [prompt, &ids].concat());
    let cached = session.cached_tokens();
    assert!(session.tokens().starts_with(cached), "the cache holds what was never said");
    assert!(ids.is_empty() || cached.len() + 1 >= session.tokens().len());
    Answer { ids, logprobs, text, reason: finished.reason }
}

fn options() -> impl Strategy<Value = GenerateOptions> {
    let stops = ["ba", "\n\n", "é", "b\n", "aab"].map(str::to_owned).to_vec();
    (
        prop_oneof![Just(None), (0usize..40).prop_map(Some)],
        proptest::sample::subsequence(stops, 0..3),
        proptest::collection::vec(0u32..VOCAB_SIZE as u32, 0..2),
        any::<bool>(),
        prop_oneof![Just(1.0), 0.6..1.6],
        prop_oneof![Just(0.0), -1.0..1.5],
        prop_oneof![Just(0.0), -0.5..0.5],
        prop_oneof![Just(0usize), 3usize..4],
    )
        .prop_map(
            |(max_tokens, stop, eos_ids, ignore_eos, repetition, presence, frequency, ngram)| {
                let sampling = SamplingParams {
                    repetition_penalty: repetition,
                    presence_penalty: presence,
                    frequency_penalty: frequency,
                    no_repeat_ngram: ngram,
                    ..SamplingParams::greedy()
                };
                let logprobs = true;
                let options = GenerateOptions { max_tokens, sampling, stop, ..Default::default() };
                GenerateOptions { eos_ids, ignore_eos, logprobs, ..options }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn greedy_speculation_is_plain_greedy(
        seed in any::<u64>(),
        step in prop_oneof![Just(0.01f32), Just(0.5), Just(2.0)],
        prompt in proptest::collection::vec(0u32..VOCAB_SIZE as u32, 1..6),
        options in options(),
        draft_len in 0usize..=8,
    ) {
        let target = ScriptedModel::hashed(VOCAB_SIZE, seed, 3, 2.0, step).with_context_len(40);
        let session = |drafter| {
            Session::new(Box::new(target.clone()), vocabulary(), drafter).unwrap()
        };
        let plain = answer(&mut session(None), &prompt, &options);
        let options = GenerateOptions { draft_len, ..options };
        for (name, drafter) in drafters(&target, seed) {
            let mut session = session(Some(drafter));
            prop_assert_eq!(&answer(&mut session, &prompt, &options), &plain, "{}", name);
            // Again on what the first answer left behind.
            prop_assert_eq!(&answer(&mut session, &prompt, &options), &plain, "{} again", name);
        }
    }

    #[test]
    fn a_seed_gives_one_answer(
        seed in any::<u64>(),
        prompt in proptest::collection::vec(0u32..VOCAB_SIZE as u32, 1..6),
        options in options(),
        draft_len in 0usize..=8,
    ) {
        let target = ScriptedModel::hashed(VOCAB_SIZE, 3, 3, 2.0, 0.25).with_context_len(40);
        let sampling =
            SamplingParams { temperature: 1.0, top_p: 0.9, seed, ..options.sampling.clone() };
        let options = GenerateOptions { sampling, draft_len, ..options };
        let session = |index: usize| {
            let drafter = drafters(&target, 7).swap_remove(index).1;
            Session::new(Box::new(target.clone()), vocabulary(), Some(drafter)).unwrap()
        };
        for index in [0, 1, 6] {
            let mut cold = session(index);
            let expect = answer(&mut cold, &prompt, &options);
            let mut warm = session(index);
            let other = GenerateOptions { max_tokens: Some(9), ..GenerateOptions::default() };
            answer(&mut warm, &[&prompt[..], &[1, 2]].concat(), &other);
            prop_assert_eq!(&answer(&mut warm, &prompt, &options), &expect);
        }
    }
}

// ---- Counting ----

/// The reference's rounds, with models that recite: the draft is right just where the reference's
/// draft was. The same cases run on the real pair of models where those are loaded.
#[test]
fn rounds_are_counted_as_the_reference_counts_them() {
    const VOCAB_SIZE: usize = 640;
    let cases = draft_cases(&minicrit_testkit::fixtures_dir());
    assert_eq!(cases.len(), 8);
    for (case, prompt) in cases {
        let mut drafted = case.output.clone();
        let mut at = 0;
        for &kept in &case.accepted_per_round {
            at += kept as usize;
            if let Some(missed) = drafted.get_mut(at).filter(|_| (kept as usize) < case.k) {
                *missed = (*missed + 1) % VOCAB_SIZE as u32;
            }
            at += 1;
        }
        let (answer, text) = (case.output.clone(), [&prompt[..], &case.output].concat());
        let prompt_len = prompt.len();
        let draft = ScriptedModel::new(VOCAB_SIZE, move |context| {
            let mut row = vec![0.0; VOCAB_SIZE];
            let on_path = text.starts_with(context);
            let next = drafted.get(context.len() - prompt_len).filter(|_| on_path);
            row[next.copied().unwrap_or(0) as usize] = 1.0;
            row
        });
        let target = ScriptedModel::reciting(VOCAB_SIZE, &prompt, &answer);
        check_draft_case(&case, &prompt, Box::new(target), Box::new(draft));
    }
}
