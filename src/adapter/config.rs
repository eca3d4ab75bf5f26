//! `adapter_config.json` of a PEFT folder: what scales each module, and what is refused by name.

use std::path::Path;

use regex::Regex;
use serde_json::{Map, Value};

use super::error::{Error, Result};

/// The file of a PEFT folder that says how its factors are scaled.
pub const CONFIG: &str = "adapter_config.json";

/// Options that say how an adapter is trained, found or loaded, and change nothing of what it does
/// once it is.
const INERT: [&str; 18] = [
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "exclude_modules",
    // Linear layers ignore it (`Linear` of peft's `lora/layer.py`).
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "velora_config",
];
/// Options that are read.
const READ: [&str; 5] = ["r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"];
/// Initialisations by name that leave the base model as it is. Others, as pissa, change it as well:
/// the adapter alone is then a part of what was trained.
const KEEP_BASE: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// What scales the modules of an adapter.
#[derive(Debug)]
pub(super) struct PeftConfig {
    rank: f64,
    alpha: f64,
    is_rank_stabilised: bool,
    ranks: Vec<(Regex, f64)>,
    alphas: Vec<(Regex, f64)>,
}

impl PeftConfig {
    /// Reads the file in `folder`.
    ///
    /// # Errors
    /// It cannot be read, or asks for what aird does not do.
    pub(super) fn read(folder: &Path) -> Result<PeftConfig> {
        let path = folder.join(CONFIG);
        let wrong = |what: String| Error::Peft { path: path.clone(), what };
        let text =
            std::fs::read_to_string(&path).map_err(|e| wrong(format!("cannot read: {e}")))?;
        let json: Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let config = json.as_object().ok_or_else(|| wrong("expected a JSON object".into()))?;
        PeftConfig::of(config).map_err(wrong)
    }

    fn of(config: &Map<String, Value>) -> std::result::Result<PeftConfig, String> {
        match config.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            found => {
                return Err(format!("peft_type is {}, expected LORA", found.unwrap_or("missing")));
            }
        }
        for (option, value) in config {
            check_option(option, value)?;
        }
        let number = |name: &str| {
            let value = config.get(name).and_then(Value::as_f64);
            value.filter(|x| x.is_finite()).ok_or(format!("{name} is not a number"))
        };
        let rank = number("r")?;
        if rank <= 0.0 {
            return Err(format!("r is {rank}, expected 1 or more"));
        }
        Ok(PeftConfig {
            rank,
            alpha: number("lora_alpha")?,
            is_rank_stabilised: config.get("use_rslora") == Some(&Value::Bool(true)),
            ranks: patterns(config, "rank_pattern")?,
            alphas: patterns(config, "alpha_pattern")?,
        })
    }

    /// The rank that `module` should have.
    pub(super) fn rank(&self, module: &str) -> f64 {
        find(&self.ranks, module).unwrap_or(self.rank)
    }

    /// What `B A` of `module` is multiplied by: `alpha / r`, or `alpha / sqrt(r)` (arXiv
    /// 2312.03732).
    pub(super) fn factor(&self, module: &str) -> f64 {
        let (rank, alpha) = (self.rank(module), find(&self.alphas, module).unwrap_or(self.alpha));
        alpha / if self.is_rank_stabilised { rank.sqrt() } else { rank }
    }
}

/// What is said against an option, if it changes what the adapter does in a way that aird does not
/// follow.
fn check_option(option: &str, value: &Value) -> std::result::Result<(), String> {
    let is_off = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let initialised = value.as_str().unwrap_or_default();
    match option {
        "init_lora_weights"
            if value.is_null() || value.is_boolean() || KEEP_BASE.contains(&initialised) =>
        {
            Ok(())
        }
        "init_lora_weights" => Err(format!(
            "init_lora_weights is {value}, expected one that leaves the base model as it is\n\
             hint: save it with path_initial_model_for_weight_conversion"
        )),
        "bias" => match initialised {
            "none" => Ok(()),
            found => Err(format!("bias is {found}: trained biases are not supported")),
        },
        "megatron_core" => Ok(()),
        _ if is_off || INERT.contains(&option) || READ.contains(&option) => Ok(()),
        "use_dora" => Err("use_dora is set: DoRA is not supported".into()),
        "modules_to_save" => Err(format!(
            "modules_to_save is {value}: whole modules beside the factors are not supported"
        )),
        option => Err(format!("{option} is {value}: this option is not supported")),
    }
}

/// The patterns of an option, in order. A key matches a module's name as peft's `get_pattern_key`
/// has it: the whole name, or what follows a dot of it.
fn patterns(
    config: &Map<String, Value>,
    option: &str,
) -> std::result::Result<Vec<(Regex, f64)>, String> {
    let Some(map) = config.get(option).and_then(Value::as_object) else { return Ok(Vec::new()) };
    let pattern = |(key, value): (&String, &Value)| {
        let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        let number =
            number.ok_or(format!("{option}: '{key}' is {value}, expected a number above 0"))?;
        let whole = Regex::new(&format!(r"^(.*\.)?({key})$"));
        Ok((whole.map_err(|_| format!("{option}: '{key}' is no pattern that aird reads"))?, number))
    };
    map.iter().map(pattern).collect()
}

fn find(patterns: &[(Regex, f64)], module: &str) -> Option<f64> {
    patterns.iter().find(|(pattern, _)| pattern.is_match(module)).map(|(_, x)| *x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(more: Value) -> std::result::Result<PeftConfig, String> {
        let mut config = json!({
            "peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none", "use_dora": false,
            "modules_to_save": null, "target_modules": ["q_proj"], "lora_dropout": 0.1,
            "init_lora_weights": true, "megatron_core": "megatron.core", "eva_config": null,
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        PeftConfig::of(config.as_object().unwrap())
    }

    #[test]
    fn modules_are_scaled_as_peft_scales_them() {
        let config = of(json!({
            "rank_pattern": {"q_proj": 4, "layers.1.mlp.down_proj": 2},
            "alpha_pattern": {"model.layers.0.self_attn.q_proj": 2},
        }))
        .unwrap();
        assert_eq!(config.factor("model.layers.5.self_attn.k_proj"), 2.0);
        assert_eq!(config.factor("model.layers.5.self_attn.q_proj"), 4.0);
        assert_eq!(config.factor("model.layers.0.self_attn.q_proj"), 0.5);
        assert_eq!(config.rank("model.layers.1.mlp.down_proj"), 2.0);
        // Not what ends so within a name.
        assert_eq!(config.rank("model.layers.0.self_attn.my_q_proj"), 8.0);
        let stabilised = of(json!({"use_rslora": true})).unwrap();
        assert!((stabilised.factor("lm_head") - 16.0 / 8f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (more, said) in [
            (json!({"use_dora": true}), "use_dora"),
            (json!({"modules_to_save": ["lm_head"]}), "modules_to_save"),
            (json!({"bias": "all"}), "bias is all"),
            (json!({"lora_bias": true}), "lora_bias"),
            (json!({"layer_replication": [[0, 2]]}), "layer_replication"),
            (json!({"init_lora_weights": "pissa_niter_16"}), "init_lora_weights"),
            (json!({"init_lora_weights": "lora_ga"}), "init_lora_weights"),
            (json!({"peft_type": "IA3"}), "peft_type is IA3"),
            (json!({"an_option_to_come": 3}), "an_option_to_come"),
            (json!({"r": 0}), "r is 0"),
            (json!({"rank_pattern": {"(": 3}}), "rank_pattern"),
        ] {
            let error = of(more).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(of(json!({"init_lora_weights": "gaussian", "an_option_to_come": null})).is_ok());
    }
}
