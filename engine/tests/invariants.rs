//! The invariants of whole models: a row's bits depend on its own sequence alone.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use minicrit_engine::{
    Error, NamedError,
    cache::{CacheTag, ModelId},
    language_model::LanguageModel,
    load::{LoadOptions, load_decoder_with},
    model::Decoder,
    pass::{Pass, Rows, Span},
    sequence::Sequence,
    source::ModelFiles,
};
use minicrit_quant::{Format, PackedKind, WeightFormat, pool::Threads};
use minicrit_testkit::fixtures::{Fixture, all_logits};

/// One of each kind of arithmetic: plain, tied, q/k norm, window, mixture, fused, ropes that change.
const MODELS: [&str; 9] = [
    "qwen2",
    "qwen3",
    "qwen3-moe",
    "llama-dynamic",
    "mistral",
    "mixtral",
    "phi3-longrope",
    "qwen2-yarn",
    "qwen2-sharded-bf16",
];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|it| it.to_bits()).collect()
}

/// Every model with its stored weights, in two of ggml's types, and packed into int8 and int4.
fn each_model(check: impl Fn(&str, &Arc<Decoder>, &[u32])) {
    for name in MODELS {
        let fixture = Fixture::open(name);
        let files = ModelFiles::open(&fixture.dir).unwrap();
        // Three times the ids: more than one attention chunk of 64 positions.
        let ids = fixture.ids("ids_40").repeat(3);
        let ggml = [Format::Q5_1, Format::Q4K].map(WeightFormat::Stored);
        let packed = PackedKind::ALL.map(WeightFormat::Packed);
        for quantize in [None].into_iter().chain(ggml.into_iter().chain(packed).map(Some)) {
            let quantize = quantize.map(Into::into);
            let decoder = load_decoder_with(&files, LoadOptions { quantize }).unwrap();
            check(&format!("{name} {quantize:?}"), &Arc::new(decoder), &ids);
        }
    }
}

#[test]
fn chunks_of_the_prefill_do_not_change_a_bit() {
    each_model(|name, decoder, ids| {
        let whole = bits(&all_logits(&mut Sequence::new(decoder.clone(), None), ids));
        for chunk in [1, 2, 3, 5, 16, 64, 119] {
            let mut sequence = Sequence::new(decoder.clone(), None).with_chunk(chunk);
            assert!(bits(&all_logits(&mut sequence, ids)) == whole, "{name} in chunks of {chunk}");
        }
    });
}

#[test]
fn threads_do_not_change_a_bit() {
    each_model(|name, decoder, ids| {
        let run = |threads: usize| {
            let threads = Threads::new(threads).unwrap();
            threads.run(|| bits(&all_logits(&mut Sequence::new(decoder.clone(), None), ids)))
        };
        let one = run(1);
        assert!(run(2) == one, "{name} with 2 threads");
        assert!(run(5) == one, "{name} with 5 threads");
    });
}

#[test]
fn one_token_at_a_time_equals_one_call() {
    each_model(|name, decoder, ids| {
        let mut whole = Sequence::new(decoder.clone(), None);
        let rows = whole.extend(ids, ids.len()).unwrap();
        let mut stepwise = Sequence::new(decoder.clone(), None);
        for (i, &id) in ids.iter().enumerate() {
            let row = stepwise.extend(&[id], 1).unwrap();
            assert!(bits(row.row(0)) == bits(rows.row(i)), "{name} at position {i}");
        }
    });
}

#[test]
fn truncate_then_replay_equals_never_having_gone_there() {
    each_model(|name, decoder, ids| {
        let mut straight = Sequence::new(decoder.clone(), None);
        let want = straight.extend(&ids[..70], 5).unwrap();
        let mut wandering = Sequence::new(decoder.clone(), None);
        wandering.extend(&ids[..66], 1).unwrap();
        wandering.extend(&[3, 1, 2, 3], 4).unwrap();
        wandering.truncate(12);
        wandering.extend(&[9; 30], 2).unwrap();
        wandering.truncate(12);
        let got = wandering.extend(&ids[12..70], 5).unwrap();
        assert_eq!(wandering.tokens(), &ids[..70]);
        assert!(bits(&got.into_values()) == bits(&want.into_values()), "{name}");
    });
}

#[test]
fn sequences_in_one_pass_do_not_touch_each_other() {
    each_model(|name, decoder, ids| {
        let (first, second) = (&ids[..37], &ids[37..77]);
        let alone = |ids: &[u32]| bits(&all_logits(&mut Sequence::new(decoder.clone(), None), ids));
        let want = [alone(first), alone(second)].concat();

        let spans =
            [first, second].map(|it| Span { start: 0, len: it.len(), total: it.len() }).to_vec();
        let tag = |total: usize| CacheTag {
            model: decoder.id,
            adapter: None,
            rope: decoder.regime(total),
        };
        let mut caches =
            spans.iter().map(|it| decoder.new_cache(tag(it.total))).collect::<Vec<_>>();
        let mut caches = caches.iter_mut().collect::<Vec<_>>();
        let rows = Rows::new(spans);
        let mut pass = Pass { rows: &rows, caches: &mut caches, adapter: None };
        let tokens = [first, second].concat();
        let hidden = decoder.hidden(&tokens, &mut pass).unwrap();
        let together = decoder.logits(&hidden, &pass).unwrap();
        let got = bits(&together.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert!(got == want, "{name} with caches");

        let mut pass = Pass { rows: &rows, caches: &mut [], adapter: None };
        let hidden = decoder.hidden(&tokens, &mut pass).unwrap();
        let packed = decoder.logits(&hidden, &pass).unwrap();
        let got = bits(&packed.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert!(got == want, "{name} packed as training packs them");
    });
}

#[test]
fn branches_in_one_pass_equal_one_after_the_other() {
    each_model(|name, decoder, ids| {
        let (trunk, rest) = ids.split_at(70);
        let branches = [rest[..1].to_vec(), rest[1..9].to_vec(), rest[3..20].to_vec()];
        let mut sequence = Sequence::new(decoder.clone(), None);
        sequence.extend(trunk, 0).unwrap();
        let mut together = vec![Vec::new(); branches.len()];
        sequence
            .branch(&branches, &mut |index, row, logits| {
                assert_eq!(together[index].len(), row);
                together[index].push(bits(logits));
                Ok(())
            })
            .unwrap();
        assert_eq!(sequence.tokens(), trunk);
        for (branch, together) in std::iter::zip(&branches, &together) {
            let mut alone = Vec::new();
            sequence
                .extend_complete(branch, &mut |_, logits| {
                    alone.push(bits(logits));
                    Ok(())
                })
                .unwrap();
            sequence.truncate(trunk.len());
            assert!(alone == *together, "{name}: {} tokens", branch.len());
        }
    });
}

#[test]
fn a_cache_of_another_model_is_refused() {
    let fixture = Fixture::open("qwen2");
    let decoder = fixture.decoder();
    let tag = CacheTag { model: ModelId(0), adapter: None, rope: decoder.regime(1) };
    let mut cache = decoder.new_cache(tag);
    let rows = Rows::of_one(0, 1);
    let mut caches = [&mut cache];
    let mut pass = Pass { rows: &rows, caches: &mut caches, adapter: None };
    let error = decoder.hidden(&[1], &mut pass).unwrap_err();
    assert_eq!(error.name(), "cache-mismatch");
}

fn name_of(result: Result<impl Sized, Error>) -> &'static str {
    result.err().map_or("no error", |error| error.name())
}

#[test]
fn a_failed_call_leaves_the_sequence_as_it_was() {
    let fixture = Fixture::open("llama");
    let decoder = Arc::new(fixture.decoder());
    let ids = fixture.ids("ids_40");
    let mut sequence = Sequence::new(decoder.clone(), None).with_context_len(64);
    sequence.extend(&ids, 1).unwrap();
    assert_eq!(name_of(sequence.extend(&[1, 999_999], 2)), "token-out-of-range");
    assert_eq!(name_of(sequence.extend(&[1; 25], 1)), "context-overflow");
    assert_eq!(sequence.tokens(), ids);
    let got = sequence.extend(&[7], 1).unwrap();
    let mut fresh = Sequence::new(decoder, None);
    let want = fresh.extend(&[ids.as_slice(), &[7]].concat(), 1).unwrap();
    assert_eq!(bits(got.row(0)), bits(want.row(0)));
}

#[test]
fn a_poisoned_weight_stops_the_work_by_name() {
    let fixture = Fixture::open("llama");
    let files = ModelFiles::open(&fixture.dir).unwrap();
    for name in files.tensors.keys().filter(|it| !it.contains("norm") && !it.contains("bias")) {
        let mut files = files.clone();
        let tensor = files.tensors.get_mut(name).unwrap();
        let mut bytes = tensor.bytes.to_vec();
        // A NaN for token 5 of the embedding and of the head, or for row 5 of any other matrix.
        let row_bytes = bytes.len() / tensor.shape[0];
        bytes[5 * row_bytes..5 * row_bytes + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        tensor.bytes = bytes.into();
        let decoder = Arc::new(minicrit_engine::load::load_decoder(&files).unwrap());
        let mut sequence = Sequence::new(decoder, None);
        assert_eq!(name_of(sequence.extend(&[1, 5, 2], 3)), "numerics", "{name}");
        assert!(sequence.tokens().is_empty());
    }
}
