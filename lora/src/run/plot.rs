//! The loss as a picture that needs no program.

use std::fmt::Write;

use serde_json::Value;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 400.0;
const MARGIN: f64 = 56.0;
/// Share of the old mean in the smoothed line.
const SMOOTHING: f64 = 0.6;

/// An SVG of the loss of every step, a smoothed line, and the loss of evaluations.
pub fn loss_curve(history: &[Value]) -> String {
    let points = |key: &str| -> Vec<(f64, f64)> {
        let point = |it: &Value| Some((it["step"].as_f64()?, it[key].as_f64()?));
        history.iter().filter_map(point).collect()
    };
    let (losses, evaluations) = (points("loss"), points("eval_loss"));
    let mut mean = None;
    let smooth: Vec<(f64, f64)> = losses
        .iter()
        .map(|&(step, loss)| {
            let old = mean.unwrap_or(loss);
            let new = SMOOTHING * old + (1.0 - SMOOTHING) * loss;
            mean = Some(new);
            (step, new)
        })
        .collect();
    let all = || losses.iter().chain(&evaluations);
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    all().for_each(|it| (low, high) = (low.min(it.1), high.max(it.1)));
    if !low.is_finite() {
        (low, high) = (0.0, 1.0);
    }
    if high - low < 1e-9 {
        high = low + 1.0;
    }
    let last = all().map(|it| it.0).fold(1.0, f64::max);
    let place = |&(step, loss): &(f64, f64)| {
        let x = MARGIN + (WIDTH - 2.0 * MARGIN) * step / last;
        let y = HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * (loss - low) / (high - low);
        (x, y)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Training loss</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for i in 0..=4 {
        let share = f64::from(i) / 4.0;
        let loss = low + (high - low) * share;
        let (_, y) = place(&(0.0, loss));
        let end = WIDTH - MARGIN;
        let _ = writeln!(
            svg,
            "<path d=\"M{MARGIN} {y:.1}H{end}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" \
             text-anchor=\"end\">{loss:.3}</text>",
            MARGIN - 6.0,
            y + 4.0
        );
        let step = (last * share).round();
        let (x, _) = place(&(step, low));
        let below = HEIGHT - MARGIN + 18.0;
        let _ =
            writeln!(svg, "<text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{step}</text>");
    }
    let mut line = |points: &[(f64, f64)], style: &str| {
        let path: Vec<String> =
            points.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        if !path.is_empty() {
            let _ =
                writeln!(svg, "<polyline points=\"{}\" fill=\"none\" {style}/>", path.join(" "));
        }
    };
    line(&losses, "stroke=\"#1f77b4\" stroke-opacity=\"0.35\"");
    line(&smooth, "stroke=\"#1f77b4\" stroke-width=\"2\"");
    line(&evaluations, "stroke=\"#d62728\" stroke-width=\"2\"");
    let _ = writeln!(
        svg,
        "<text x=\"{MARGIN}\" y=\"24\">loss: each step, smoothed{}</text>\n\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">step</text>\n</svg>",
        if evaluations.is_empty() { "" } else { "; red: evaluations" },
        WIDTH / 2.0,
        HEIGHT - 12.0
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn any_history_gives_a_picture() {
        let step = |step: u64, loss: f64| json!({"step": step, "loss": loss});
        for history in [vec![], vec![step(1, 2.0)], vec![step(1, 2.0), step(2, 1.0)]] {
            let svg = loss_curve(&history);
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
