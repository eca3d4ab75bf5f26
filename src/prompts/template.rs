//! The chat template: how a model expects to be asked.

use std::path::Path;

use minijinja::{Environment, Value};
use sha2::{Digest, Sha256};

use super::clock::Moment;
use super::error::{Error, Result};
use super::jinja;
use super::shown::is_shown;
use super::special::SpecialTokens;
use super::text::TextFile;
use crate::gguf::{Model, hex};

/// The key of a model's own template. Further ones, `tokenizer.chat_template.tool_use` and the
/// like, are for callers that have tools.
const TEMPLATE_KEY: &str = "tokenizer.chat_template";
/// A prompt that occurs in no template: it shows whether prompts are rendered at all.
const PROBE: &str = "aird-probe-of-a-prompt";

/// One turn of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into() }
    }
}

/// Renders chats as the text that a model reads.
#[derive(Debug)]
pub struct ChatTemplate {
    /// None for no template: texts stay as they are.
    jinja: Option<Environment<'static>>,
    source: String,
    special: SpecialTokens,
    /// The form in which the template expects a message's text.
    content: Content,
}

/// The form of `message.content`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// The text.
    Text,
    /// A list that holds the text as `{"type": "text", "text": ...}`, which templates of vision
    /// models expect.
    Parts,
}

impl ChatTemplate {
    /// The model's own: Jinja, with the model's special tokens.
    ///
    /// # Errors
    /// The model has none, or it is not Jinja.
    pub fn from_model(model: &Model) -> Result<ChatTemplate> {
        let value = model.kv().get(TEMPLATE_KEY).ok_or(Error::NoTemplate)?;
        let source = value.as_str().ok_or(Error::TemplateNotText)?;
        ChatTemplate::new(source, SpecialTokens::of(model))
    }

    /// A file of Jinja in place of the model's own, with `model`'s special tokens.
    ///
    /// # Errors
    /// The file cannot be read, or is not Jinja.
    pub fn from_file(path: &Path, model: &Model) -> Result<ChatTemplate> {
        let source = TextFile::read(path)?.text;
        ChatTemplate::new(&source, SpecialTokens::of(model)).map_err(|e| e.in_file(path))
    }

    /// A template from its source. The date it may print is read now: every text that it
    /// renders has the same.
    ///
    /// # Errors
    /// The source is empty or not Jinja, or `SOURCE_DATE_EPOCH` is not a number.
    pub fn new(source: &str, special: SpecialTokens) -> Result<ChatTemplate> {
        ChatTemplate::at(source, special, Moment::now()?)
    }

    /// As [`ChatTemplate::new`], at `unix_seconds` after 1970 began.
    ///
    /// # Errors
    /// The source is empty or not Jinja.
    pub fn dated(source: &str, special: SpecialTokens, unix_seconds: u32) -> Result<ChatTemplate> {
        ChatTemplate::at(source, special, Moment::from_unix(unix_seconds.into()))
    }

    fn at(source: &str, special: SpecialTokens, moment: Moment) -> Result<ChatTemplate> {
        if source.trim().is_empty() {
            return Err(Error::EmptyTemplate);
        }
        let jinja = Some(jinja::environment(source, moment)?);
        let content = Content::Text;
        let mut template = ChatTemplate { jinja, source: source.into(), special, content };
        if template.check(None).is_err() {
            template.content = Content::Parts;
            if template.check(None).is_err() {
                // Neither form shows the prompt: report errors for the plain one.
                template.content = Content::Text;
            }
        }
        Ok(template)
    }

    /// No template: each text as it is, a blank line between texts.
    pub fn none() -> ChatTemplate {
        let special = SpecialTokens::default();
        ChatTemplate { jinja: None, source: String::new(), special, content: Content::Text }
    }

    /// Checks that a prompt would be put to the model, after `system` if there is one.
    ///
    /// # Errors
    /// See [`ChatTemplate::render`].
    pub fn check(&self, system: Option<&str>) -> Result<()> {
        self.render(system, PROBE).map(drop)
    }

    /// A prompt, up to where the model begins to answer.
    ///
    /// # Errors
    /// The template fails or declines: some take no system prompt. Or what it renders lacks one of
    /// the two.
    pub fn render(&self, system: Option<&str>, user: &str) -> Result<String> {
        let rendered = self.render_messages(&turns(system, user), true)?;
        all_shown(rendered, system, user)
    }

    /// A prompt and an answer to it, as a chat that is continued.
    ///
    /// # Errors
    /// See [`ChatTemplate::render`].
    pub fn render_answered(
        &self,
        system: Option<&str>,
        user: &str,
        answer: &str,
    ) -> Result<String> {
        let mut messages = turns(system, user);
        messages.push(Message::new("assistant", answer));
        let rendered = self.render_messages(&messages, false)?;
        all_shown(rendered, system, user)
    }

    /// Any chat, as `apply_chat_template(messages, tokenize=False, enable_thinking=False)` renders
    /// it: what the template leaves out is missing.
    ///
    /// # Errors
    /// The template fails or declines.
    pub fn render_messages(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String> {
        let Some(environment) = &self.jinja else {
            let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
            return Ok(texts.join("\n\n"));
        };
        let message = |m: &Message| {
            let text = Value::from(m.content.as_str());
            let content = match self.content {
                Content::Text => text,
                Content::Parts => {
                    vec![Value::from_pairs([("type", "text".into()), ("text", text)])].into()
                }
            };
            Value::from_pairs([("role", m.role.as_str().into()), ("content", content)])
        };
        let given = [
            ("messages", messages.iter().map(message).collect::<Vec<_>>().into()),
            ("add_generation_prompt", add_generation_prompt.into()),
            ("tools", ().into()),
            ("documents", ().into()),
            // Templates of models that can think end the thought at once if they know this flag:
            // the answer is measured here.
            ("enable_thinking", false.into()),
        ];
        let special = self.special.named().into_iter();
        let special = special.filter_map(|(name, text)| Some((name, Value::from(text?))));
        jinja::render(environment, Value::from_pairs(given.into_iter().chain(special)))
    }

    /// True if `rendered` begins with the text of the BOS token: the tokenizer must then not put
    /// another in front.
    pub fn adds_bos(&self, rendered: &str) -> bool {
        let bos = self.special.bos.as_deref().filter(|bos| !bos.is_empty());
        bos.is_some_and(|bos| rendered.starts_with(bos))
    }

    /// sha256 of the source, byte by byte; of the empty text if there is no template.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.source))
    }

    /// The text that a short prompt is rendered as, if that depends on the date: together with the
    /// hash of the source it identifies the prompts.
    ///
    /// # Errors
    /// See [`ChatTemplate::render`].
    pub fn dated_text(&self) -> Result<Option<String>> {
        self.prints_date().then(|| self.render(None, "?")).transpose()
    }

    /// True if what is rendered depends on the date, unless `SOURCE_DATE_EPOCH` fixes it.
    pub fn prints_date(&self) -> bool {
        self.source.contains("strftime_now")
    }
}

fn all_shown(rendered: String, system: Option<&str>, user: &str) -> Result<String> {
    if !is_shown(user, &rendered) {
        return Err(Error::PromptLeftOut);
    }
    match system.is_none_or(|system| is_shown(system, &rendered)) {
        true => Ok(rendered),
        false => Err(Error::SystemLeftOut),
    }
}

fn turns(system: Option<&str>, user: &str) -> Vec<Message> {
    let system = system.map(|text| Message::new("system", text));
    system.into_iter().chain([Message::new("user", user)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\
        <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    fn special() -> SpecialTokens {
        SpecialTokens { bos: Some("<s>".into()), ..SpecialTokens::default() }
    }

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::dated(source, special(), 0).unwrap()
    }

    #[test]
    fn a_prompt_ends_where_the_model_begins() {
        let template = template(CHATML);
        assert_eq!(
            template.render(Some("Be kind."), "Hi").unwrap(),
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
             <|im_start|>assistant\n"
        );
        assert_eq!(
            template.render_answered(None, "Hi", "Hello").unwrap(),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        );
    }

    #[test]
    fn a_model_that_may_think_first_is_told_not_to() {
        // As Qwen3's ends.
        let qwen3 = "{{ messages[0].content }}{% if add_generation_prompt %}a{% if \
            enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}\
            {% endif %}";
        assert_eq!(template(qwen3).render(None, "Hi").unwrap(), "Hia<think></think>");
    }

    #[test]
    fn no_template_leaves_texts_alone() {
        let none = ChatTemplate::none();
        assert_eq!(none.render(None, " <b>Hi</b>\n").unwrap(), " <b>Hi</b>\n");
        assert_eq!(none.render(Some("Be kind."), "Hi").unwrap(), "Be kind.\n\nHi");
        assert!(!none.adds_bos("<s>Hi"));
    }

    #[test]
    fn a_bos_is_seen_where_the_template_puts_one() {
        let with = template("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}");
        assert!(with.adds_bos(&with.render(None, "Hi").unwrap()));
        let without = template("{{ messages[0].content }}{{ bos_token }}");
        assert!(!without.adds_bos(&without.render(None, "Hi").unwrap()));
        let special = SpecialTokens { bos: Some(String::new()), ..SpecialTokens::default() };
        let empty = ChatTemplate::dated("{{ bos_token }}", special, 0).unwrap();
        assert!(!empty.adds_bos(""));
    }

    #[test]
    fn the_hash_is_that_of_the_source_and_a_date_is_told() {
        // printf a | sha256sum
        let expected = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert_eq!(template("a").sha256(), expected);
        assert!(!template(CHATML).prints_date());
        let dated = template("{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}");
        assert!(dated.prints_date());
        assert_eq!(dated.render(None, "").unwrap(), "01 Jan 1970");
        let tomorrow = ChatTemplate::dated(&dated.source, special(), 86_400).unwrap();
        assert_eq!(dated.sha256(), tomorrow.sha256());
        let text = |template: &ChatTemplate| template.dated_text().unwrap();
        assert_eq!(text(&dated).as_deref(), Some("01 Jan 1970?"));
        assert_eq!(text(&tomorrow).as_deref(), Some("02 Jan 1970?"));
        assert_eq!(text(&template(CHATML)), None);
    }

    #[test]
    fn what_is_said_is_handed_over_in_parts_where_a_template_wants_it_so() {
        let parts = "{% for m in messages %}{{ m.role }}: {% for part in m.content %}\
            {% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{{ '\n' }}\
            {% endfor %}";
        let chat = template(parts);
        assert_eq!(chat.render(Some("Be kind."), "Hi").unwrap(), "system: Be kind.\nuser: Hi\n");
        assert_eq!(chat.render_answered(None, "Hi", "Yes").unwrap(), "user: Hi\nassistant: Yes\n");
        // One that fails on a text wants it so, too.
        let first = "{{ messages[0].content[0].text.strip() }}";
        assert_eq!(template(first).render(None, " Hi ").unwrap(), "Hi");
        // Plain text goes first.
        let either = "{{ messages[0].content if messages[0].content is string else 'parts' }}";
        assert_eq!(template(either).render(None, "Hi").unwrap(), "Hi");
    }

    #[test]
    fn a_prompt_or_system_prompt_that_is_left_out_is_an_error() {
        let said = |source: &str, system| template(source).check(system).unwrap_err().to_string();
        let prompt = "the chat template leaves out the prompt or a part of it, expected all of it";
        assert_eq!(said("<|user|>{{ messages[0].text }}<|end|>", None), prompt);
        let no_system = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}\
            {% endif %}{% endfor %}";
        template(no_system).check(None).unwrap();
        assert_eq!(
            said(no_system, Some("Be kind.")),
            "the chat template leaves out the system prompt or a part of it, expected all of it"
        );
        // An empty one has nothing to show.
        template(no_system).check(Some("")).unwrap();
        let fails = "{{ messages[0].content.text.strip() }}";
        assert!(said(fails, None).starts_with("the chat template fails in line 1"));
        let empty = ChatTemplate::dated(" \n", special(), 0).unwrap_err().to_string();
        assert_eq!(empty, "the chat template is empty, expected Jinja that renders the prompt");
        // A template that drops only this prompt.
        let thoughts = template("{{ messages[0].content.split('</think>')[-1] }}");
        assert!(matches!(thoughts.render(None, "a</think>b"), Err(Error::PromptLeftOut)));
    }
}
