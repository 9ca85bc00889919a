//! README.md: what was trained on what, for whoever finds the folder.

use std::fmt::Write;

use super::Receipt;

/// A model card with the head that Hugging Face's tools read.
pub fn model_card(receipt: &Receipt, is_adapter: bool) -> String {
    let of = |name: &str| receipt.made_of.get(name).map_or("", String::as_str);
    let base = serde_json::to_string(of("base")).unwrap_or_default();
    let kind = if is_adapter { "Adapter" } else { "Model" };
    let mut card = String::from("---\n");
    if is_adapter {
        let _ = writeln!(card, "base_model: {base}\nlibrary_name: peft");
    }
    let _ = writeln!(card, "tags:\n- minicrit\n- {}\n---\n", of("method"));
    let _ = writeln!(card, "# {kind} of {}\n", of("base"));
    let _ = writeln!(
        card,
        "Trained with minicrit {} by {}: {} steps over {} examples ({} trained tokens an epoch).\n",
        receipt.minicrit,
        of("method"),
        receipt.steps,
        receipt.examples,
        receipt.trained_tokens,
    );
    let figure = |value: Option<f64>| value.map_or("-".to_string(), |it| format!("{it:.4}"));
    let _ = writeln!(card, "| | loss |\n|---|---|");
    let _ = writeln!(card, "| first step | {} |", figure(receipt.first_loss));
    let _ = writeln!(card, "| last tenth of the steps | {} |", figure(receipt.final_loss));
    let _ = writeln!(card, "| best evaluation | {} |\n", figure(receipt.best_eval_loss));
    if receipt.from_step != receipt.steps {
        let _ =
            writeln!(card, "These are the parameters of step {}, the best.\n", receipt.from_step);
    }
    let _ = writeln!(card, "![loss](training_loss.svg)\n\n## Made of\n");
    for (name, value) in &receipt.made_of {
        let _ = writeln!(card, "- {name}: `{}`", value.replace('`', "'"));
    }
    if is_adapter {
        let _ = writeln!(
            card,
            "\n## Use\n\n```console\n$ minicrit run BASE --adapter THIS_FOLDER\n```\n\n\
             or `PeftModel.from_pretrained(model, THIS_FOLDER)` in Python."
        );
    }
    card
}
