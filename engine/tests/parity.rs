//! Logits and greedy tokens of every family against transformers.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use minicrit_engine::{
    language_model::LanguageModel, load::load_decoder, model::Decoder, score::argmax,
    sequence::Sequence, source::ModelFiles,
};
use minicrit_testkit::{
    fixtures::{
        Fixture, GREEDY_MARGIN, LOGITS_TOLERANCE, all_logits, largest_difference, read_json,
        read_npy, rounded_input_slack, widened,
    },
    fixtures_dir,
};

const MODELS: [&str; 16] = [
    "qwen2",
    "qwen2-tied",
    "qwen2-yarn",
    "qwen3",
    "qwen3-moe",
    "llama",
    "llama-tied",
    "llama-linear",
    "llama-dynamic",
    "mistral",
    "mistral-nemo",
    "mixtral",
    "phi3",
    "phi3-longrope",
    "qwen2-sharded-bf16",
    "llama-f16",
];

fn check_logits(name: &str, fixture: &Fixture, decoder: Decoder) {
    let decoder = Arc::new(decoder);
    for case in ["5", "40"] {
        let file = format!("logits_{case}.npy");
        if !fixture.dir.join(&file).exists() {
            continue;
        }
        let mut sequence = Sequence::new(decoder.clone(), None);
        let got = all_logits(&mut sequence, &fixture.ids(&format!("ids_{case}")));
        let difference = largest_difference(&got, &fixture.matrix(&file));
        assert!(difference <= LOGITS_TOLERANCE, "{name} ids_{case}: logits differ by {difference}");
    }
}

#[test]
fn logits_equal_transformers_in_both_spellings_of_the_config() {
    for name in MODELS {
        let fixture = Fixture::open(name);
        check_logits(name, &fixture, fixture.decoder());
        if fixture.dir.join("config.v4.json").exists() {
            let decoder = fixture.decoder_with_config("config.v4.json");
            check_logits(&format!("{name} (older config)"), &fixture, decoder);
        }
    }
}

#[test]
fn greedy_tokens_equal_transformers() {
    for name in MODELS {
        let fixture = Fixture::open(name);
        let decoder = Arc::new(fixture.decoder());
        for case in ["5", "40"] {
            let margin = fixture.facts[format!("greedy_{case}_min_margin")].as_f64();
            if margin.is_none_or(|it| it < GREEDY_MARGIN) {
                continue;
            }
            let want = fixture.ids(&format!("greedy_{case}"));
            let mut sequence = Sequence::new(decoder.clone(), None);
            let prompt = fixture.ids(&format!("ids_{case}"));
            let mut logits = sequence.extend(&prompt, 1).expect("prompt");
            let mut got = Vec::new();
            for _ in 0..want.len() {
                let next = argmax(logits.row(0));
                got.push(next);
                logits = sequence.extend(&[next], 1).expect("token");
            }
            assert_eq!(got, want, "{name} greedy_{case}");
        }
    }
}

#[test]
fn gguf_files_give_the_logits_of_their_weights() {
    let dir = fixtures_dir().join("gguf");
    if !dir.exists() {
        // A fuller set of references may come without GGUF files; the repository's own has them.
        assert!(std::env::var_os("MINICRIT_PARITY_DIR").is_some(), "fixtures/parity/gguf");
        return;
    }
    let models = read_json(&dir.join("models.json"));
    let models = models.as_object().expect("an object of models");
    assert!(models.len() >= 7, "{} GGUF models", models.len());
    for (name, facts) in models {
        let files = ModelFiles::open(&dir.join(name)).expect("opens");
        let ids: Vec<u32> = facts["ids_40"]
            .as_array()
            .expect("ids")
            .iter()
            .map(|v| v.as_u64().unwrap() as u32)
            .collect();
        let want = read_npy(&dir.join(facts["logits"].as_str().expect("a file")));
        // The values of the file, then the products that run.
        for (files, slack) in [(widened(&files), 0.0), (files.clone(), rounded_input_slack(&want))]
        {
            let decoder = load_decoder(&files).unwrap_or_else(|e| panic!("{name}: {e}"));
            let got = all_logits(&mut Sequence::new(Arc::new(decoder), None), &ids);
            let (difference, most) = (largest_difference(&got, &want), LOGITS_TOLERANCE + slack);
            assert!(difference <= most, "{name}: logits differ by {difference}, not {most}");
        }
    }
}
