//! The figures of the paper that aird follows, to be printed beside a study's own: they are of
//! other models.

/// Where they are published.
pub(super) const SOURCE: &str = "https://arxiv.org/abs/2504.04215";

/// Cosines of the refusal directions of base and compressed model, for one way of compressing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Published {
    /// The paper's name of it.
    pub name: &'static str,
    /// For Llama-2-7B; None if the paper has none.
    pub llama_2_7b: Option<&'static str>,
    /// For Llama-3-8B; None if the paper has none.
    pub llama_3_8b: Option<&'static str>,
}

const fn row(name: &'static str, llama_2_7b: &'static str, llama_3_8b: &'static str) -> Published {
    let llama_3_8b = if llama_3_8b.is_empty() { None } else { Some(llama_3_8b) };
    Published { name, llama_2_7b: Some(llama_2_7b), llama_3_8b }
}

const WANDA_ALIGN: Published = row("Wanda-Align", "0.351", "0.732");
const WANDA_ALPACA: Published = row("Wanda-Alpaca", "0.539", "0.902");
const MAGNITUDE: Published = row("magnitude", "0.337", "");
const LLM_INT8: Published = row("LLM.int8()", "0.996", "0.99");
const AWQ: Published = row("AWQ", "0.996", "0.994");

/// The paper's row for a model that was made by these steps; None if it has none, or if several
/// steps compress.
pub(super) fn published(made: &[String]) -> Option<Published> {
    let mut rows = made.iter().filter_map(|step| {
        let has = |word: &str| step.split([' ', '=', ':', '/', ',']).any(|w| w == word);
        match () {
            () if has("wanda") && has("align") => Some(WANDA_ALIGN),
            () if has("wanda") && has("alpaca") => Some(WANDA_ALPACA),
            () if has("magnitude") => Some(MAGNITUDE),
            () if has("llm-int8") || has("int8") => Some(LLM_INT8),
            () if has("awq") => Some(AWQ),
            () => None,
        }
    });
    let compresses = |step: &&String| step.starts_with("prune") || step.starts_with("quantize");
    let row = rows.next()?;
    (made.iter().filter(compresses).count() <= 1).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_by_how_a_model_was_made() {
        let of = |steps: &[&str]| {
            let made: Vec<String> = steps.iter().map(ToString::to_string).collect();
            published(&made).map(|p| p.name)
        };
        let wanda = "prune --method wanda --sparsity 0.5 --data builtin:align";
        assert_eq!(of(&[wanda]), Some("Wanda-Align"));
        assert_eq!(of(&["merge --lora a.gguf", wanda]), Some("Wanda-Align"));
        assert_eq!(of(&["prune --method wanda --data mine.txt"]), None);
        assert_eq!(of(&["quantize --method llm-int8"]), Some("LLM.int8()"));
        assert_eq!(of(&[wanda, "quantize --method awq --type q4_0"]), None);
    }
}
