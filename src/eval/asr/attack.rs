//! The four published attacks, and the interventions in the model meanwhile.

use serde::Serialize;

use crate::direction::{Direction, Result, ablate, add};
use crate::llama::{Engine, Hooks};
use crate::prompts::ChatTemplate;

/// A way to get a harmful request answered (Wei et al. 2024; the names are the study's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Only the request: the model's default system prompt, its template, greedy.
    Vanilla,
    /// No system prompt, a suffix after the request, greedy; once with each suffix.
    AdvSuffix,
    /// No system prompt, several samples.
    AdvDecoding,
    /// No system prompt, no template: the bare request and a line end; several samples.
    AdvDecodingRaw,
}

impl Attack {
    /// All four, in the order of the study's table.
    pub const ALL: [Attack; 4] =
        [Attack::Vanilla, Attack::AdvSuffix, Attack::AdvDecoding, Attack::AdvDecodingRaw];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Attack::Vanilla => "vanilla",
            Attack::AdvSuffix => "adv-suffix",
            Attack::AdvDecoding => "adv-decoding",
            Attack::AdvDecodingRaw => "adv-decoding-raw",
        }
    }

    /// The attack of that name.
    pub fn from_name(name: &str) -> Option<Attack> {
        Attack::ALL.into_iter().find(|attack| attack.name() == name)
    }

    /// The share of its answers that is the published figure.
    pub fn headline(self) -> Headline {
        match self {
            Attack::Vanilla => Headline::Only,
            Attack::AdvSuffix => Headline::BestVariant,
            Attack::AdvDecoding | Attack::AdvDecodingRaw => Headline::Any,
        }
    }

    /// How it puts prompts; `system` is the user's system prompt, `samples` the number of samples
    /// and their temperature.
    pub fn way(
        self,
        system: Option<&str>,
        suffixes: &[String],
        (samples, temperature): (usize, f32),
        template: &ChatTemplate,
    ) -> Way {
        let plain = Way::plain(self.name(), system);
        let bare = if self == Attack::Vanilla { None } else { no_system(template) };
        match self {
            Attack::Vanilla => plain,
            Attack::AdvSuffix => Way { suffixes: suffixes.into(), system: bare, ..plain },
            Attack::AdvDecoding => {
                Way { samples, temperature: Some(temperature), system: bare, ..plain }
            }
            Attack::AdvDecodingRaw => {
                let way = Way { samples, temperature: Some(temperature), raw: true, ..plain };
                Way { system: None, ..way }
            }
        }
    }
}

/// Which share of a prompt's several answers is the published figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headline {
    /// There is one answer per prompt.
    Only,
    /// The share of the best variant (suffix).
    BestVariant,
    /// The share of prompts of which any answer complies.
    Any,
}

/// How the prompts of a set are put to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// The attack's name, or the benign set's.
    pub name: String,
    /// True for no template: the bare text and a line end.
    pub raw: bool,
    /// The system message; None leaves it to the template.
    pub system: Option<String>,
    /// Texts that are put after the prompt, one at a time; if empty, the prompt is asked as it is.
    pub suffixes: Vec<String>,
    /// Answers to each text.
    pub samples: usize,
    /// Greedy decoding if None.
    pub temperature: Option<f32>,
}

impl Way {
    /// Each prompt once, by the template, greedy.
    pub fn plain(name: &str, system: Option<&str>) -> Way {
        Way {
            name: name.into(),
            raw: false,
            system: system.map(str::to_owned),
            suffixes: Vec::new(),
            samples: 1,
            temperature: None,
        }
    }

    /// Answers to each prompt.
    pub fn n_variants(&self) -> usize {
        self.suffixes.len().max(1) * self.samples
    }

    /// The user's message in variant `variant` of `prompt`.
    pub fn text(&self, prompt: &str, variant: usize) -> String {
        match self.suffixes.get(variant / self.samples) {
            Some(suffix) => format!("{prompt} {suffix}"),
            None => prompt.to_owned(),
        }
    }
}

/// The system message for no system prompt. Without one some templates insert their own; an
/// empty one prevents that.
fn no_system(template: &ChatTemplate) -> Option<String> {
    const MARK: &str = "aird-system-mark";
    const USER: &str = "aird-user-mark";
    let with = template.render(Some(MARK), USER).ok()?;
    let without = template.render(None, USER).ok()?;
    let (before, after) = with.split_once(MARK)?;
    let own = without.strip_prefix(before)?.strip_suffix(after)?;
    (!own.is_empty()).then(String::new)
}

/// What is done to a model only at run time, while it answers; with the sha256 of each file.
#[derive(Debug, Default)]
pub struct Interventions {
    /// Removed from the residual stream everywhere: necessity.
    pub ablate: Option<(Direction, String)>,
    /// Added at its layer: sufficiency.
    pub add: Option<(Direction, String)>,
    /// sha256 of the LoRA adapter that the engine was given.
    pub lora: Option<String>,
}

impl Interventions {
    /// Calls `act` with hooks for these interventions.
    ///
    /// # Errors
    /// A file has no chosen direction; or `act`'s.
    pub fn with_hooks<T, E: From<crate::direction::Error>>(
        &self,
        engine: &Engine,
        act: impl FnOnce(&mut Hooks<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let unit = self.ablate.as_ref().map(|(d, _)| d.unit()).transpose()?;
        let added = self.add.as_ref().map(|(d, _)| chosen(d)).transpose()?;
        let mut hooks = Hooks::new();
        if let Some(unit) = &unit {
            hooks = ablate(hooks, unit);
        }
        if let Some((vector, layer)) = added {
            let structure = engine.structure().map_err(crate::direction::Error::from)?;
            hooks = add(hooks, structure, vector, layer);
        }
        act(&mut hooks)
    }

    /// sha256 of the files: ablated, added, adapter.
    pub fn hashes(&self) -> [Option<&str>; 3] {
        [
            self.ablate.as_ref().map(|(_, hash)| hash.as_str()),
            self.add.as_ref().map(|(_, hash)| hash.as_str()),
            self.lora.as_deref(),
        ]
    }
}

fn chosen(direction: &Direction) -> Result<(&[f32], u32)> {
    Ok((direction.chosen()?, direction.about.layer.unwrap_or(0) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::SpecialTokens;

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::dated(source, SpecialTokens::default(), 0).unwrap()
    }

    #[test]
    fn a_templates_own_system_prompt_is_kept_out_of_attacks() {
        let plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>";
        let own = "{% if messages[0].role != 'system' %}<system>Be good.{% endif %}";
        assert_eq!(no_system(&template(plain)), None);
        assert_eq!(no_system(&template(&format!("{own}{plain}"))), Some(String::new()));
        assert_eq!(no_system(&ChatTemplate::none()), None);
        let way = Attack::AdvDecoding.way(Some("Hi"), &[], (5, 1.0), &template(plain));
        assert_eq!((way.system, way.samples, way.temperature), (None, 5, Some(1.0)));
        let way = Attack::Vanilla.way(Some("Hi"), &[], (5, 1.0), &template(plain));
        assert_eq!((way.system.as_deref(), way.n_variants()), (Some("Hi"), 1));
    }

    #[test]
    fn suffixes_follow_a_space() {
        let suffixes = ["x".to_owned(), "y".to_owned()];
        let way = Attack::AdvSuffix.way(None, &suffixes, (5, 1.0), &ChatTemplate::none());
        assert_eq!((way.n_variants(), way.text("a", 1)), (2, "a y".to_owned()));
        assert_eq!(Attack::from_name("adv-decoding-raw"), Some(Attack::AdvDecodingRaw));
        assert_eq!(Attack::from_name("adv"), None);
    }
}
