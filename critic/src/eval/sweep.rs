//! Verdicts drawn at a temperature, out of log-odds that are known already.

use super::run::CaseResult;
use crate::{case::Verdict, data::Draws, eval::calibration::sigmoid};

/// What `results` would have been had each verdict been drawn with this temperature instead of
/// taken as the more probable one. At 0 they are as they are.
pub fn at_temperature(results: &[CaseResult], temperature: f64, seed: u64) -> Vec<CaseResult> {
    if temperature == 0.0 {
        return results.to_vec();
    }
    let draw = |(index, it): (usize, &CaseResult)| {
        let Some(log_odds) = it.log_odds else { return it.clone() };
        let flawed_probability = sigmoid(log_odds / temperature);
        let flawed = Draws::new(seed, index as u64).chance(flawed_probability);
        CaseResult {
            verdict: Some(if flawed { Verdict::Flawed } else { Verdict::Valid }),
            flawed_probability: Some(flawed_probability),
            ..it.clone()
        }
    };
    results.iter().enumerate().map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_tempered_probability() {
        let one = |id: usize| CaseResult {
            id: id.to_string(),
            verdict: Some(Verdict::Flawed),
            flaw_type: None,
            flawed_probability: Some(0.8),
            log_odds: Some(2.0),
            latency_ms: 1.0,
            error: None,
        };
        let all: Vec<CaseResult> = (0..4000).map(one).collect();
        assert_eq!(at_temperature(&all, 0.0, 1), all);
        for temperature in [0.5, 1.0, 2.0] {
            let drawn = at_temperature(&all, temperature, 1);
            let flawed = drawn.iter().filter(|it| it.verdict == Some(Verdict::Flawed)).count();
            let share = flawed as f64 / 4000.0;
            // Four standard deviations of a share over 4,000 draws are at most 0.032.
            assert!((share - sigmoid(2.0 / temperature)).abs() < 0.032, "{temperature}: {share}");
        }
    }
}
