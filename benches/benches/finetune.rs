//! Steps of LoRA training at the shapes of small models: rank 16 on all linear layers, 4 sequences of
//! 256 tokens, loss on every row; tokens each second, memory, and the share of the processor's
//! peak of bfloat16 products (or of multiply-adds, where it has no tiles).
//!
//! `MINICRIT_FINETUNE=model:base:method[:steps]` picks one run and prints it as one line of JSON, for
//! `benches/peers/finetune.py`: model `mini`, `qwen2.5-0.5b`, `qwen2.5-1.5b`; base `bf16`, `q8`,
//! `q4`; method `sft`, `dpo`.

#![allow(clippy::print_stdout)] // A benchmark's figures are what it is run for.

use std::{path::Path, sync::Arc, time::Instant};

use minicrit_engine::{
    load::{LoadOptions, load_decoder_with},
    source::ModelFiles,
};
use minicrit_lora::{
    data::{Dataset, PreferenceExample, SupervisedExample},
    lora::Lora,
    losses::PairLoss,
    optimizer::AdamW,
    peft::{AdapterConfig, Excluded, Targets},
    schedule::{Decay, Schedule},
    trainer::{
        Compute, Learner, Method, Order, ReferenceLogProbs, Trainer, TrainingData, TrainingSettings,
    },
};
use minicrit_quant::{PackedKind, dense::DenseLevel, pool::Threads, roofline};
use minicrit_testkit::shapes::Shape;
use serde_json::json;

const SEQUENCES: usize = 4;
const LEN: usize = 256;
const RANK: usize = 16;

fn example(i: usize, vocab_size: usize, prompt: usize) -> SupervisedExample {
    let id = |t: usize| ((t * t * 31 + t * 7 + i * 1009) % vocab_size) as u32;
    SupervisedExample {
        ids: (0..LEN).map(id).collect(),
        weights: (0..LEN).map(|t| if t < prompt { 0.0 } else { 1.0 }).collect(),
        line: i as u64 + 1,
    }
}

fn data(method: &str, vocab_size: usize) -> TrainingData {
    let one = |i: usize| example(i, vocab_size, 0);
    if method == "sft" {
        return TrainingData::Supervised(Dataset::new((0..16).map(one).collect(), &[]));
    }
    let pair = |i: usize| PreferenceExample {
        chosen: example(2 * i, vocab_size, LEN / 2),
        rejected: example(2 * i + 1, vocab_size, LEN / 2),
        prompt_len: LEN / 2,
    };
    TrainingData::Preference(Dataset::new((0..8).map(pair).collect(), &[]))
}

/// Largest resident set of this process since it was reset, in MB.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    let kib = line.and_then(|it| it.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

fn run(model: &str, base: &str, method: &str, steps: usize) {
    let shape = match model {
        "mini" => Shape::Mini,
        "qwen2.5-0.5b" => Shape::Qwen2_0_5b,
        "qwen2.5-1.5b" => Shape::Qwen2_1_5b,
        other => panic!("no shape `{other}`"),
    };
    let quantize = match base {
        "q8" => Some(PackedKind::Q8),
        "q4" => Some(PackedKind::Q4),
        _ => None,
    };
    let folder = shape.folder(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let files = ModelFiles::open(&folder).expect("shape");
    let options = LoadOptions { quantize: quantize.map(Into::into) };
    let decoder = Arc::new(load_decoder_with(&files, options).expect("shape"));
    let spec = decoder.spec.clone();
    let config = AdapterConfig {
        rank: RANK,
        alpha: 32.0,
        rank_pattern: Vec::new(),
        alpha_pattern: Vec::new(),
        rslora: false,
        dora: false,
        targets: Targets::AllLinear,
        excluded: Excluded::default(),
        modules_to_save: Vec::new(),
        dropout: 0.0,
        base_name: None,
    };
    let lora = Lora::fresh(&config, &decoder, 1).expect("adapter");
    let learner = Learner::adapter(decoder, lora, 1.0).expect("learner");
    let learner = learner.with_compute(Compute::Bf16).expect("dense model");
    let data = data(method, spec.vocab_size);
    let settings = TrainingSettings {
        method: match method {
            "sft" => Method::Sft,
            _ => Method::Pairs(PairLoss::Sigmoid { beta: 0.1, label_smoothing: 0.0 }),
        },
        batch_size: if method == "sft" { SEQUENCES } else { SEQUENCES / 2 },
        grad_accum: 1,
        schedule: Schedule { peak: 1e-4, decay: Decay::Constant, warmup: 0, total: 99, floor: 0.0 },
        optimizer: AdamW::default(),
        clip: Some(1.0),
        seed: 1,
        dropout: 0.0,
    };
    let threads = Threads::new(std::thread::available_parallelism().map_or(1, |it| it.get()));
    let threads = threads.expect("threads");
    let order = Order::singles(data.len(), None, None);
    let (mut seconds, mut loss, mut reference_s) = (Vec::new(), 0.0, 0.0);
    threads.run(|| {
        let start = Instant::now();
        // As in a run: the reference is computed once for each pair, before the first step.
        let reference = match method {
            "sft" => ReferenceLogProbs::default(),
            _ => ReferenceLogProbs::compute(&learner, &data, SEQUENCES / 2, &mut |_| true)
                .expect("reference")
                .expect("not stopped"),
        };
        reference_s = start.elapsed().as_secs_f64() / (data.len() as f64 / 2.0);
        let mut trainer = Trainer::new(learner, settings, data, order, reference);
        for step in 0..=steps {
            let start = Instant::now();
            loss = trainer.step().expect("step").loss;
            if step > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    });
    seconds.sort_by(f64::total_cmp);
    let (best, median) = (seconds[0], seconds[seconds.len() / 2]);
    let tokens = (SEQUENCES * LEN) as f64;
    // Useful products: forwards and by the inputs, no gradient of frozen weights.
    let embedding = if spec.tied { 0 } else { spec.vocab_size * spec.hidden };
    let flops = 4.0 * (spec.num_parameters() - embedding) as f64 * tokens;
    let memory = peak_mb();
    let (ceiling, peak) = match DenseLevel::detected() {
        DenseLevel::Amx => ("tile peak", roofline::tile_peak(threads.count())),
        DenseLevel::Vector(_) => ("multiply-add peak", roofline::fma_peak(threads.count())),
    };
    let share = flops / median / 1e9 / peak;
    println!(
        "{}",
        json!({
            "model": model, "base": base, "method": method, "threads": threads.count(),
            "step_s_best": best, "step_s_median": median, "tok_s_best": tokens / best,
            "tok_s_median": tokens / median, "reference_s_per_step": reference_s,
            "peak_rss_mb": memory, "loss": loss,
            "ceiling": ceiling, "peak_gflop_s": peak, "share_of_peak": share,
        })
    );
}

fn main() {
    let all = "mini:bf16:sft qwen2.5-0.5b:bf16:sft qwen2.5-0.5b:q4:sft qwen2.5-0.5b:bf16:dpo";
    let picked = std::env::var("MINICRIT_FINETUNE").unwrap_or_else(|_| all.to_string());
    // `cargo test` builds and runs benchmarks too; there, nothing is measured.
    if !std::env::args().any(|it| it == "--bench") {
        return;
    }
    minicrit_quant::keep_freed_memory();
    for one in picked.split_whitespace() {
        let parts: Vec<&str> = one.split(':').collect();
        let [model, base, method, rest @ ..] = &parts[..] else {
            panic!("`{one}`: model:base:method")
        };
        run(model, base, method, rest.first().and_then(|it| it.parse().ok()).unwrap_or(5));
    }
}
