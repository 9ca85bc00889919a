//! Decoding and prefill, in tokens each second, as a share of what the same process can read and
//! multiply, beside candle-transformers in the same run.
//!
//! Ids read `work/model/format/threads`. `MINICRIT_BENCH_MODELS=small` leaves out the large shapes.

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
        let warm = 8;
        let per_token = decode_time(&subject.decoder, &pool, warm) / warm as u32;
        let read = subject.decoder.weight_bytes() as f64 / per_token.as_secs_f64() / 1e9;
        eprintln!(
            "decode/{id}: {:.1} tokens/s, {read:.1} GB/s, {:.0} % of read bandwidth",
            1.0 / per_token.as_secs_f64(),
            100.0 * read / bandwidth,
        );
        let spent = prefill_time(&subject.decoder, &pool, 1).as_secs_f64();
        let matrices = subject.decoder.spec.num_parameters()
            - subject.decoder.spec.vocab_size * subject.decoder.spec.hidden;
        let flops = 2.0 * matrices as f64 * PROMPT as f64 / spent / 1e9;
        eprintln!(
            "prefill/{id}: {:.0} tokens/s, {flops:.0} GFLOP/s, {:.0} % of the multiply-add peak",
            PROMPT as f64 / spent,
            100.0 * flops / peak,
        );
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
    eprintln!("decode/{id}: {:.1} tokens/s", 8.0 / decode(8).as_secs_f64());
    criterion.bench_function(&format!("decode/{id}"), |bencher| bencher.iter_custom(&mut decode));
    let mut prefill = |count: u64| {
        let start = Instant::now();
        for _ in 0..count {
            run(&prompt(PROMPT), 0);
        }
        start.elapsed()
    };
    eprintln!("prefill/{id}: {:.0} tokens/s", PROMPT as f64 / prefill(1).as_secs_f64());
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
