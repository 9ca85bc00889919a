//! Decoding and prefill, in tokens each second, as a share of what the same process can read and
//! multiply, beside candle-transformers in the same run.
//!
//! Ids read `work/model/format/threads`. `MINICRIT_BENCH_MODELS=small` leaves out the large shapes.

#![allow(clippy::print_stderr)] // A benchmark's figures are what it is run for.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::qwen2;
use criterion::{Criterion, criterion_group, criterion_main};
use minicrit_engine::{
    language_model::LanguageModel, load::load_decoder, model::Decoder, sequence::Sequence,
    source::ModelFiles,
};
use minicrit_quant::{pool::Threads, roofline};
use minicrit_testkit::shapes::Shape;

/// Tokens before the first one that counts.
const DEPTH: usize = 16;

/// Repetitions of which the median counts.
const REPETITIONS: usize = 5;

/// Tokens of one repetition.
const TOKENS: u32 = 8;

/// Rows of a prefill.
const PROMPT: usize = 128;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |it| it.get())
}

struct Subject {
    name: &'static str,
    decoder: Arc<Decoder>,
}

fn prompt(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| 3 + i * 7 % 300).collect()
}

/// Time of `count` tokens fed one by one after a prompt of [`DEPTH`].
fn decode_time(decoder: &Arc<Decoder>, threads: &Threads, count: u64) -> Duration {
    threads.run(|| {
        let mut sequence = Sequence::new(decoder.clone(), None);
        sequence.extend(&prompt(DEPTH), 1).expect("prompt");
        let start = Instant::now();
        for i in 0..count {
            if i % 64 == 63 {
                sequence.truncate(DEPTH);
            }
            sequence.extend(&[5 + (i % 100) as u32], 1).expect("token");
        }
        start.elapsed()
    })
}

fn prefill_time(decoder: &Arc<Decoder>, threads: &Threads, count: u64) -> Duration {
    let prompt = prompt(PROMPT);
    threads.run(|| {
        let start = Instant::now();
        for _ in 0..count {
            let mut sequence = Sequence::new(decoder.clone(), None);
            sequence.extend(&prompt, 1).expect("prompt");
        }
        start.elapsed()
    })
}

/// Seconds of several repetitions: least, median, most.
fn seconds(mut run: impl FnMut() -> Duration) -> [f64; 3] {
    let mut all: Vec<f64> = (0..REPETITIONS).map(|_| run().as_secs_f64()).collect();
    all.sort_by(f64::total_cmp);
    [all[0], all[REPETITIONS / 2], all[REPETITIONS - 1]]
}

fn report(work: &str, id: &str, rate: [f64; 3], unit: &str, ceiling: &str, share: f64) {
    let [most, median, least] = rate;
    let share = 100.0 * share;
    eprintln!(
        "{work}/{id}: {median:.1} ({least:.1} to {most:.1}) {unit}, {share:.0} % of {ceiling}"
    );
}

fn engine(criterion: &mut Criterion) {
    let count = threads();
    let pool = Threads::new(count).expect("threads");
    let bandwidth = roofline::read_bandwidth(count);
    let peak = roofline::fma_peak(count);
    eprintln!(
        "ceilings: read {bandwidth:.1} GB/s, multiply-add {peak:.0} GFLOP/s, {count} threads"
    );
    let small_only = std::env::var("MINICRIT_BENCH_MODELS").is_ok_and(|it| it == "small");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));

    let mut subjects = vec![Subject {
        name: "nano",
        decoder: Arc::new(load_decoder(&ModelFiles::builtin().expect("nano")).expect("nano")),
    }];
    if !small_only {
        let files = ModelFiles::open(&Shape::Qwen2_0_5b.folder(folder)).expect("shape");
        let decoder = Arc::new(load_decoder(&files).expect("shape"));
        subjects.push(Subject { name: Shape::Qwen2_0_5b.name(), decoder });
    }
    for subject in &subjects {
        let id = format!("{}/bf16/{count}", subject.name);
        let spent = seconds(|| decode_time(&subject.decoder, &pool, TOKENS.into()) / TOKENS);
        let read = spent.map(|it| subject.decoder.weight_bytes() as f64 / it / 1e9);
        let rate = spent.map(f64::recip);
        report("decode", &id, rate, "tokens/s", "read bandwidth", read[1] / bandwidth);

        let spent = seconds(|| prefill_time(&subject.decoder, &pool, 1));
        let spec = &subject.decoder.spec;
        let matrices = spec.num_parameters() - spec.vocab_size * spec.hidden;
        let flops = 2.0 * matrices as f64 * PROMPT as f64 / spent[1] / 1e9;
        let rate = spent.map(|it| PROMPT as f64 / it);
        report("prefill-128", &id, rate, "tokens/s", "the multiply-add peak", flops / peak);
        criterion.bench_function(&format!("decode/{id}"), |bencher| {
            bencher.iter_custom(|count| decode_time(&subject.decoder, &pool, count));
        });
        criterion.bench_function(&format!("prefill-128/{id}"), |bencher| {
            bencher.iter_custom(|count| prefill_time(&subject.decoder, &pool, count));
        });
    }
    if !small_only {
        baseline(criterion, &Shape::Qwen2_0_5b.folder(folder), count);
    }
}

/// candle-transformers on the same weights, widened to float32, its fastest dense type here.
fn baseline(criterion: &mut Criterion, folder: &Path, threads: usize) {
    let config: qwen2::Config =
        serde_json::from_value(Shape::Qwen2_0_5b.config()).expect("candle's config");
    let weights = [folder.join("model.safetensors")];
    // SAFETY: nobody changes the file while it is mapped.
    let builder = unsafe {
        VarBuilder::from_mmaped_safetensors(&weights, DType::F32, &Device::Cpu).expect("weights")
    };
    let mut model = qwen2::ModelForCausalLM::new(&config, builder).expect("candle's model");
    let id = format!("candle-transformers {}/f32/{threads}", Shape::Qwen2_0_5b.name());
    let mut run = |ids: &[u32], offset: usize| {
        if offset == 0 {
            model.clear_kv_cache();
        }
        let ids = Tensor::new(ids, &Device::Cpu).and_then(|it| it.unsqueeze(0)).expect("ids");
        model.forward(&ids, offset).expect("forward");
    };
    let mut decode = |count: u64| {
        run(&prompt(DEPTH), 0);
        let start = Instant::now();
        for i in 0..count {
            run(&[5 + (i % 100) as u32], DEPTH + i as usize);
        }
        start.elapsed()
    };
    let rate = seconds(|| decode(TOKENS.into()) / TOKENS).map(f64::recip);
    eprintln!("decode/{id}: {:.1} ({:.1} to {:.1}) tokens/s", rate[1], rate[2], rate[0]);
    criterion.bench_function(&format!("decode/{id}"), |bencher| bencher.iter_custom(&mut decode));
    let mut prefill = |count: u64| {
        let start = Instant::now();
        for _ in 0..count {
            run(&prompt(PROMPT), 0);
        }
        start.elapsed()
    };
    let rate = seconds(|| prefill(1)).map(|it| PROMPT as f64 / it);
    eprintln!("prefill-128/{id}: {:.0} ({:.0} to {:.0}) tokens/s", rate[1], rate[2], rate[0]);
    criterion
        .bench_function(&format!("prefill-128/{id}"), |bencher| bencher.iter_custom(&mut prefill));
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5));
    targets = engine
}
criterion_main!(benches);
