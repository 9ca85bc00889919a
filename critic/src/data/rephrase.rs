//! Rationales in a model's own words, where a check finds that the label is still true.

use minicrit_engine::chat::Message;

use crate::{
    Result,
    critique::{Backend, Prompt, Sampling},
};

/// The most tokens of a rephrased rationale.
const TOKENS: usize = 256;

/// Least share of the longer words that must stay: with fewer it is about something else.
const LEAST_SHARED: f64 = 0.4;

/// Words that judge; a rationale does not judge itself.
const JUDGING: [&str; 6] =
    ["flaw", "fallacy", "fallacious", "verdict", "biased reasoning", "unsound"];

/// `text` in the words of `backend`, drawn at `temperature`; none where the answer is not sure to
/// have the same label.
///
/// # Errors
/// Those of the backend.
pub fn rephrase(
    backend: &mut dyn Backend,
    text: &str,
    temperature: f64,
    seed: u64,
) -> Result<Option<String>> {
    let question = format!(
        "Say this in other words. Keep every number, every condition and the conclusion; add nothing and do not judge it.\n\n{text}"
    );
    let prompt = Prompt { messages: vec![Message::new("user", question)], answer: String::new() };
    let sampling = Sampling { temperature, seed, ..Sampling::greedy(TOKENS) };
    let new = backend.generate(&prompt, &sampling)?;
    let new = new.trim().split("\n\n").next().unwrap_or_default().trim().to_owned();
    if !keeps(text, &new) {
        return Ok(None);
    }
    let question = format!(
        "A: {text}\n\nB: {new}\n\nDo A and B draw the same conclusion from the same evidence? Answer with one word: yes or no."
    );
    let prompt =
        Prompt { messages: vec![Message::new("user", question)], answer: "Answer:".into() };
    let scores = backend.label_scores(&prompt, &[" yes", " no"])?;
    Ok((scores[0] > scores[1]).then_some(new))
}

/// Whether `new` says what `old` says, as far as words show: the same numbers, as many negations,
/// most of the longer words, about the same length, and no judgement.
pub fn keeps(old: &str, new: &str) -> bool {
    let (old, new) = (old.to_lowercase(), new.to_lowercase());
    let longer = |text: &str| -> Vec<String> {
        words(text).filter(|it| it.chars().count() >= 5).map(str::to_owned).collect()
    };
    let (old_words, new_words) = (longer(&old), longer(&new));
    let shared = old_words.iter().filter(|it| new_words.contains(it)).count();
    let lengths = (words(&old).count(), words(&new).count());
    old != new
        && sorted(numbers(&old)) == sorted(numbers(&new))
        && negations(&old) == negations(&new)
        && shared as f64 >= LEAST_SHARED * old_words.len() as f64
        && 2 * lengths.1 >= lengths.0
        && lengths.1 <= 2 * lengths.0
        && !JUDGING.iter().any(|it| new.contains(it) && !old.contains(it))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|it: char| !it.is_alphanumeric() && it != '\'').filter(|it| !it.is_empty())
}

fn numbers(text: &str) -> Vec<&str> {
    text.split(|it: char| !it.is_ascii_digit()).filter(|it| !it.is_empty()).collect()
}

fn sorted(mut list: Vec<&str>) -> Vec<&str> {
    list.sort_unstable();
    list
}

fn negations(text: &str) -> usize {
    let negates = |it: &&str| {
        ["not", "no", "never", "none", "nobody", "nothing", "without", "cannot"].contains(it)
            || it.ends_with("n't")
    };
    words(text).filter(negates).count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Scripted {
        says: &'static str,
        agrees: bool,
    }

    impl Backend for Scripted {
        fn name(&self) -> &str {
            "scripted"
        }

        fn label_scores(&mut self, _: &Prompt, _: &[&str]) -> Result<Vec<f64>> {
            Ok(if self.agrees { vec![-0.1, -2.0] } else { vec![-2.0, -0.1] })
        }

        fn generate(&mut self, _: &Prompt, _: &Sampling) -> Result<String> {
            Ok(self.says.into())
        }
    }

    const OLD: &str = "The last 3 trades won, so the momentum signal works.";

    #[test]
    fn only_what_keeps_numbers_negations_and_words_is_kept() {
        assert!(keeps(OLD, "Since the last 3 trades won, the momentum signal must work."));
        for bad in [
            OLD,
            "",
            "Since the last 4 trades won, the momentum signal must work.",
            "Since the last 3 trades won, the momentum signal does not work.",
            "The last 3 trades won, so the momentum signal works, a fallacy.",
            "3 of them went well, and so it is fine.",
        ] {
            assert!(!keeps(OLD, bad), "{bad}");
        }
    }

    #[test]
    fn the_model_must_agree_that_both_say_the_same() {
        let says = "Since the last 3 trades won, the momentum signal must work.\n\nAnything else?";
        let new = rephrase(&mut Scripted { says, agrees: true }, OLD, 0.7, 1).unwrap();
        assert_eq!(new.as_deref(), says.split("\n\n").next());
        assert_eq!(rephrase(&mut Scripted { says, agrees: false }, OLD, 0.7, 1).unwrap(), None);
        let says = "It works.";
        assert_eq!(rephrase(&mut Scripted { says, agrees: true }, OLD, 0.7, 1).unwrap(), None);
    }
}
