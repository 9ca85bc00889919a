//! The settings that shape a distribution, and their limits.

use crate::session::{BadSetting, SessionError};

/// How logits become probabilities. Every field has a neutral value that switches it off.
///
/// ```
/// use minicrit_engine::dist::SamplingParams;
/// let params = SamplingParams { temperature: 0.7, top_k: 20, ..SamplingParams::greedy() };
/// assert!(params.validate().is_ok());
/// assert!(SamplingParams { top_p: f64::NAN, ..params }.validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 takes the largest (lowest id on ties) and ignores the filters below.
    pub temperature: f64,
    /// Keep the k largest logits and their equals; 0 keeps all.
    pub top_k: usize,
    /// Keep the fewest most likely tokens whose probability reaches this; 1 keeps all.
    pub top_p: f64,
    /// Keep tokens at least this likely relative to the most likely; 0 keeps all.
    pub min_p: f64,
    /// Keep tokens of typical information until this much probability is reached; 1 keeps all.
    pub typical_p: f64,
    /// Divides positive and multiplies negative logits of tokens in prompt or answer; 1 is off.
    pub repetition_penalty: f64,
    /// Subtracted from the logits of tokens that the answer already holds; 0 is off.
    pub presence_penalty: f64,
    /// Subtracted once for each time that the answer already holds the token; 0 is off.
    pub frequency_penalty: f64,
    /// No run of this many tokens appears twice in prompt and answer; 0 is off.
    pub no_repeat_ngram: usize,
    /// Key of the random numbers.
    pub seed: u64,
}

impl SamplingParams {
    /// The most likely token each time, nothing penalised.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            no_repeat_ngram: 0,
            seed: 0,
        }
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`SessionError::Settings`] with all fields that are not; NaN is in no range.
    pub fn validate(&self) -> Result<(), SessionError> {
        let bad = self.bad_settings();
        if bad.is_empty() { Ok(()) } else { Err(SessionError::Settings(bad)) }
    }

    /// The fields that are out of range.
    pub(crate) fn bad_settings(&self) -> Vec<BadSetting> {
        const LARGEST: f64 = f64::MAX;
        const SMALLEST: f64 = f64::MIN_POSITIVE;
        let ranges = [
            ("temperature", self.temperature, 0.0..=LARGEST, "a number from 0 up"),
            ("top_p", self.top_p, 0.0..=1.0, "a number from 0 to 1"),
            ("min_p", self.min_p, 0.0..=1.0, "a number from 0 to 1"),
            ("typical_p", self.typical_p, SMALLEST..=1.0, "a number above 0 and up to 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                SMALLEST..=LARGEST,
                "a number above 0 (1 is off)",
            ),
            ("presence_penalty", self.presence_penalty, -2.0..=2.0, "a number from -2 to 2"),
            ("frequency_penalty", self.frequency_penalty, -2.0..=2.0, "a number from -2 to 2"),
        ];
        ranges
            .into_iter()
            .filter(|(_, value, range, _)| !range.contains(value))
            .map(|(field, value, _, expected)| BadSetting {
                field,
                value: value.to_string(),
                expected,
            })
            .collect()
    }
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self::greedy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bad_fields_are_named_at_once() {
        let params = SamplingParams {
            temperature: -0.1,
            top_p: f64::NAN,
            repetition_penalty: 0.0,
            ..SamplingParams::greedy()
        };
        let Err(SessionError::Settings(bad)) = params.validate() else { panic!("accepted") };
        let fields: Vec<_> = bad.iter().map(|it| it.field).collect();
        assert_eq!(fields, ["temperature", "top_p", "repetition_penalty"]);
        assert_eq!(bad[1].value, "NaN");
    }

    #[test]
    fn each_field_refuses_nan_infinity_and_its_outside() {
        type Set = fn(&mut SamplingParams, f64);
        let fields: [(Set, f64, f64); 7] = [
            (|p, x| p.temperature = x, 2.0, -1e-9),
            (|p, x| p.top_p = x, 0.0, 1.0001),
            (|p, x| p.min_p = x, 1.0, -0.1),
            (|p, x| p.typical_p = x, 0.5, 0.0),
            (|p, x| p.repetition_penalty = x, 1.3, -1.0),
            (|p, x| p.presence_penalty = x, -2.0, 2.1),
            (|p, x| p.frequency_penalty = x, 2.0, -2.1),
        ];
        for (idx, (set, good, outside)) in fields.into_iter().enumerate() {
            let with = |value| {
                let mut params = SamplingParams::greedy();
                set(&mut params, value);
                params.validate().is_ok()
            };
            assert!(with(good), "field {idx}");
            for bad in [outside, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                assert!(!with(bad), "field {idx} took {bad}");
            }
        }
    }
}
