//! The pictures of a report, drawn as SVG in the colours of its page.

use std::fmt::Write;

use super::{Metric, ModelReport, TypeConfusion};

/// Text that can't be taken for markup.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Counts by true and named flaw.
pub(super) fn confusion(table: &TypeConfusion) -> String {
    const LEFT: usize = 178;
    const TOP: usize = 142;
    const CELL: usize = 30;
    let n = table.names.len();
    let (width, height) = (LEFT + n * CELL + 70, TOP + n * CELL + 10);
    let mut out = format!(
        "<svg role=\"img\" aria-label=\"confusion matrix by flaw\" viewBox=\"0 0 {width} {height}\" style=\"width:{width}px\">"
    );
    for (i, name) in table.names.iter().enumerate() {
        let name = escape(name);
        let (x, y) = (LEFT + i * CELL + CELL / 2, TOP + i * CELL + CELL / 2 + 4);
        let _ = write!(out, "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{name}</text>", LEFT - 8);
        let _ = write!(
            out,
            "<text transform=\"translate({x},{}) rotate(-50)\" text-anchor=\"start\">{name}</text>",
            TOP - 8
        );
    }
    for (row, counts) in table.counts.iter().enumerate() {
        let sum: usize = counts.iter().sum();
        for (column, &count) in counts.iter().enumerate() {
            let share = if sum == 0 { 0.0 } else { count as f64 / sum as f64 };
            let (x, y) = (LEFT + column * CELL, TOP + row * CELL);
            let alpha = if count == 0 { 0.04 } else { 0.15 + 0.85 * share };
            let colour = if row == column { "var(--cell)" } else { "180,67,47" };
            let _ = write!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"3\" style=\"fill:rgba({colour},{alpha:.2})\"><title>{} called {}: {count}</title></rect>",
                CELL - 2,
                CELL - 2,
                escape(&table.names[row]),
                escape(&table.names[column])
            );
            if count > 0 {
                let ink = if alpha > 0.6 { " style=\"fill:#fff\"" } else { "" };
                let _ = write!(
                    out,
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\"{ink}>{count}</text>",
                    x + CELL / 2 - 1,
                    y + CELL / 2 + 4
                );
            }
        }
    }
    out + "</svg>"
}

/// Confidence against the share of right verdicts, one line for each critic.
pub(super) fn reliability(models: &[ModelReport]) -> String {
    const SIZE: f64 = 300.0;
    const LEFT: f64 = 44.0;
    const TOP: f64 = 10.0;
    let mut out = String::from(
        "<svg role=\"img\" aria-label=\"reliability curve\" viewBox=\"0 0 360 350\" style=\"width:420px\">",
    );
    // A verdict's confidence is at least one half.
    let x = |value: f64| LEFT + (value - 0.5) * 2.0 * SIZE;
    let y = |value: f64| TOP + (1.0 - value) * SIZE;
    for tick in 0..=5 {
        let (a, b) = (0.5 + f64::from(tick) * 0.1, f64::from(tick) * 0.2);
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{:.1}\" y2=\"{:.1}\" style=\"stroke:var(--line)\"/><text class=\"s\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{:.0}</text><text class=\"s\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.0}</text>",
            LEFT + SIZE,
            y(b),
            y(b),
            LEFT - 6.0,
            y(b) + 4.0,
            b * 100.0,
            x(a),
            TOP + SIZE + 16.0,
            a * 100.0
        );
    }
    let _ = write!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" style=\"stroke:var(--soft);stroke-dasharray:4 4\"/><text class=\"s\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">confidence, %</text><text class=\"s\" transform=\"translate(12,{:.1}) rotate(-90)\" text-anchor=\"middle\">right, %</text>",
        x(0.5),
        y(0.5),
        x(1.0),
        y(1.0),
        LEFT + SIZE / 2.0,
        TOP + SIZE + 34.0,
        TOP + SIZE / 2.0
    );
    let last = models.len().saturating_sub(1);
    for (at, model) in models.iter().enumerate() {
        let colour = if at == last { "var(--b)" } else { "var(--a)" };
        let points = model.reliability.points();
        let line: Vec<String> = points
            .iter()
            .map(|it| format!("{:.1},{:.1}", x(it.confidence), y(it.accuracy)))
            .collect();
        let _ = write!(
            out,
            "<polyline points=\"{}\" style=\"fill:none;stroke:{colour};stroke-width:2\"/>",
            line.join(" ")
        );
        let most = points.iter().map(|it| it.count).max().unwrap_or(1) as f64;
        for it in points {
            let _ = write!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{:.1}\" style=\"fill:{colour}\"><title>{} cases, {:.0} % sure, {:.0} % right</title></circle>",
                x(it.confidence),
                y(it.accuracy),
                3.0 + 5.0 * (it.count as f64 / most).sqrt(),
                it.count,
                it.confidence * 100.0,
                it.accuracy * 100.0
            );
        }
    }
    out + "</svg>"
}

/// The main rates of two critics beside each other, with their intervals.
pub(super) fn bars(first: &ModelReport, second: &ModelReport) -> String {
    const WIDTH: f64 = 620.0;
    const LEFT: f64 = 130.0;
    let shown = [
        Metric::F1,
        Metric::Precision,
        Metric::Recall,
        Metric::FalsePositiveRate,
        Metric::FlawAccuracy,
        Metric::Ece,
    ];
    let height = 34 + shown.len() * 56;
    let mut out = format!(
        "<svg role=\"img\" aria-label=\"before and after\" viewBox=\"0 0 840 {height}\" style=\"width:840px\">"
    );
    for (at, (name, colour)) in
        [(&first.name, "var(--a)"), (&second.name, "var(--b)")].into_iter().enumerate()
    {
        let x = LEFT + 310.0 * at as f64;
        let _ = write!(
            out,
            "<rect x=\"{x}\" y=\"4\" width=\"12\" height=\"12\" rx=\"3\" style=\"fill:{colour}\"/><text x=\"{}\" y=\"14\">{}</text>",
            x + 18.0,
            escape(name)
        );
    }
    for (row, metric) in shown.into_iter().enumerate() {
        let top = 34.0 + 56.0 * row as f64;
        let arrow = if metric.higher_is_better() { "↑" } else { "↓" };
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{} {arrow}</text>",
            LEFT - 10.0,
            top + 24.0,
            metric.name().replace('_', " ")
        );
        for (at, (model, colour)) in
            [(first, "var(--a)"), (second, "var(--b)")].into_iter().enumerate()
        {
            let (value, interval) = model.metric(metric);
            let y = top + 20.0 * at as f64;
            if value.is_nan() {
                continue;
            }
            let at_x = |value: f64| LEFT + WIDTH * value.clamp(0.0, 1.0);
            let _ = write!(
                out,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"16\" rx=\"3\" style=\"fill:{colour}\"/><line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{}\" y2=\"{}\" style=\"stroke:var(--ink);stroke-width:1.5\"/><text x=\"{:.1}\" y=\"{}\">{:.1} %</text>",
                (WIDTH * value.clamp(0.0, 1.0)).max(1.0),
                at_x(interval.low),
                at_x(interval.high),
                y + 8.0,
                y + 8.0,
                at_x(interval.high.max(value)) + 8.0,
                y + 12.0,
                value * 100.0
            );
        }
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn markup_in_a_rationale_stays_text() {
        assert_eq!(escape("<b a=\"1\">&'\u{7}"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;\u{fffd}");
    }
}
