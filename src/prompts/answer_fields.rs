//! Which fields of a record hold a request, its answer and its set's name, and the text in them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::field::{PROMPT, first_of, input_field};

/// Names of the answer's field, those of models' output first: beside one of them, `answer` is what
/// the item expects, and `content` and `text` may be anything. `choices` is of OpenAI's API and its
/// likes, `messages` a whole chat, `conversations` ShareGPT's; `resps` and `filtered_resps` are
/// lm-evaluation-harness's, filtered ones may be an extract; `generation` is HarmBench's.
const ANSWER: [&str; 16] = [
    "response",
    "completion",
    "generation",
    "generated_text",
    "output",
    "outputs",
    "choices",
    "message",
    "messages",
    "conversations",
    "resps",
    "filtered_resps",
    "prediction",
    "answer",
    "content",
    "text",
];
/// Names that other tools give to other things as well.
const CHOICES: &str = "choices";
const MESSAGE: &str = "message";
/// Names of the request's field besides [`PROMPT`]'s.
const REQUEST: [&str; 6] = ["test_case", "request", "query", "input", "messages", "conversations"];
/// lm-evaluation-harness's: the item, whose fields have the usual names; and what was put to the
/// model.
const DOC: &str = "doc";
const ARGUMENTS: &str = "arguments";
/// Names of the set's field; HarmBench's last.
const SET: [&str; 4] = ["set", "attack", "category", "SemanticCategory"];
/// The field with the reason where there is no answer: aird's transcripts, OpenAI's batches.
const ERROR: &str = "error";
/// Where OpenAI's batches have it if the request itself failed.
const BODY_ERROR: &str = "response.body.error";

/// Fields of an object in which a text lies, or what holds it.
const WITHIN: [&str; 8] =
    ["message", "content", "text", "value", "choices", "body", "output", "generated_text"];
/// Fields of a chat's turn with what is said in it; the second is ShareGPT's.
const TURN: [&str; 2] = ["content", "value"];
/// The field in which OpenAI's API refuses; the usual one is then null.
const REFUSAL: &str = "refusal";
/// Types of a message's parts that are text, each with the field that holds it.
const TEXT_PARTS: [(&str, &str); 3] =
    [("text", "text"), ("output_text", "text"), ("refusal", REFUSAL)];
/// Types of items in a model's output that hold what it thinks.
const THOUGHTS: [&str; 2] = ["reasoning", "thinking"];
/// Who answers and who asks, in chats.
const ASSISTANTS: [&str; 4] = ["assistant", "gpt", "model", "bot"];
const USERS: [&str; 2] = ["user", "human"];

/// Which fields to read; None for those with the usual names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedFields {
    /// The request's. A dot leads into an object: `doc.question`.
    pub prompt: Option<String>,
    /// The answer's.
    pub answer: Option<String>,
    /// The set's.
    pub set: Option<String>,
}

/// The fields that were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerFields {
    /// The request's; null if records have no such field.
    pub prompt: Option<String>,
    /// The answer's.
    pub answer: String,
    /// The set's name; null if records have no such field.
    pub set: Option<String>,
}

impl AnswerFields {
    /// True if the field `name` is read, be it for an error or for text that continues a request.
    pub(super) fn reads(&self, name: &str) -> bool {
        let found = [Some(self.answer.as_str()), self.prompt.as_deref(), self.set.as_deref()];
        let is_input = |prompt| input_field(&[name], prompt).is_some();
        name == ERROR || found.contains(&Some(name)) || self.prompt.as_deref().is_some_and(is_input)
    }
}

/// The answer's field in `record`.
pub(super) fn guess_answer(record: &Map<String, Json>) -> Option<&str> {
    let fields = record.iter().filter(|(name, value)| is_reply(name, value));
    let fields = fields.filter(|(_, value)| answer_in(value).is_some());
    let names: Vec<&str> = fields.map(|(name, _)| name.as_str()).collect();
    first_of(&ANSWER, &names).or_else(|| {
        let texts = record.iter().filter(|(_, value)| value.is_string());
        first_of(&[MESSAGE], &texts.map(|(name, _)| name.as_str()).collect::<Vec<_>>())
    })
}

/// False for what other tools mean by an answer's name: the options of an item, which are texts or
/// have labels; a `message` that is only text, which may be the user's.
fn is_reply(name: &str, value: &Json) -> bool {
    let is_choice = |choice: &Json| choice.is_object() && choice.get("label").is_none();
    match name {
        name if name.eq_ignore_ascii_case(CHOICES) => {
            value.as_array().is_some_and(|choices| choices.iter().all(is_choice))
        }
        name if name.eq_ignore_ascii_case(MESSAGE) => !value.is_string(),
        _ => true,
    }
}

/// The request's field in a record whose answer is in the field `answer`.
pub(super) fn guess_request(record: &Map<String, Json>, answer: &str) -> Option<String> {
    let is_other = |name: &str, value: &Json| name != answer || turns(value).is_some();
    let holds =
        |(name, value): &(&String, &Json)| is_other(name, value) && request_in(value).is_some();
    let names: Vec<&str> = record.iter().filter(holds).map(|(name, _)| name.as_str()).collect();
    // `text` last: it says least.
    let [usual @ .., text] = PROMPT;
    let names_of = |usual: &[&str]| first_of(usual, &names);
    let found = names_of(&usual).or_else(|| names_of(&REQUEST)).or_else(|| names_of(&[text]));
    found.map(str::to_owned).or_else(|| {
        let inner = record.get(DOC).and_then(Json::as_object);
        let inner = inner.and_then(|doc| {
            let texts = doc.iter().filter(|(_, value)| value.is_string());
            first_of(&PROMPT, &texts.map(|(name, _)| name.as_str()).collect::<Vec<_>>())
        });
        let arguments = || record.contains_key(ARGUMENTS).then(|| ARGUMENTS.to_owned());
        inner.map(|name| format!("{DOC}.{name}")).or_else(arguments)
    })
}

/// The field of the set's name in `record`.
pub(super) fn guess_set(record: &Map<String, Json>) -> Option<&str> {
    let fields = record.iter().filter(|(_, value)| name_in(value).is_some());
    first_of(&SET, &fields.map(|(name, _)| name.as_str()).collect::<Vec<_>>())
}

/// For messages: all the names that would do.
pub(super) fn expected_answer() -> String {
    let [names @ .., last] = ANSWER;
    format!("'{}' or '{last}'", names.join("', '"))
}

/// What is at `path`: a field, or, after dots, a field of an object in a field.
pub(super) fn at<'j>(record: &'j Map<String, Json>, path: &str) -> Option<&'j Json> {
    record.get(path).or_else(|| {
        let (first, rest) = path.split_once('.')?;
        at(record.get(first)?.as_object()?, rest)
    })
}

/// The answer that a field holds: its text, or what the assistant says last.
pub(super) fn answer_in(value: &Json) -> Option<String> {
    match turns(value) {
        Some(turns) => {
            let (_, turn) = turns.last().filter(|(role, _)| ASSISTANTS.contains(role))?;
            text_within(turn, &TURN)
        }
        None => text_in(value),
    }
}

/// The request that a field holds: its text, or what the user says last.
pub(super) fn request_in(value: &Json) -> Option<String> {
    match turns(value) {
        Some(turns) => {
            let (_, turn) = turns.iter().rfind(|(role, _)| USERS.contains(role))?;
            text_within(turn, &TURN)
        }
        None => text_in(value),
    }
}

/// The request of `record` at `path`, with the text that continues an instruction.
pub(super) fn request_of(record: &Map<String, Json>, path: &str) -> Option<String> {
    let value = at(record, path)?;
    let text = match path {
        ARGUMENTS => first_string(value)?,
        _ => request_in(value)?,
    };
    let names: Vec<&str> = record.keys().map(String::as_str).collect();
    let input = input_field(&names, path).and_then(|name| record[name].as_str());
    Some(match input.filter(|input| !input.trim().is_empty()) {
        Some(input) => format!("{text}\n\n{input}"),
        None => text,
    })
}

/// The name that a field holds: a filled text, or a number.
pub(super) fn name_in(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => (!text.trim().is_empty()).then(|| text.trim().to_owned()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Why a record holds no answer, if it says so.
pub(super) fn error_of(record: &Map<String, Json>) -> Option<String> {
    [ERROR, BODY_ERROR].into_iter().find_map(|path| match at(record, path)? {
        Json::String(text) => (!text.trim().is_empty()).then(|| text.clone()),
        Json::Null | Json::Bool(false) => None,
        other => Some(other.to_string()),
    })
}

/// Role and fields of each turn, if `value` is a chat.
fn turns(value: &Json) -> Option<Vec<(&str, &Map<String, Json>)>> {
    let list = value.as_array().filter(|list| !list.is_empty())?;
    list.iter().map(turn_of).collect()
}

/// As `{"role": .., "content": ..}`, or ShareGPT's `{"from": .., "value": ..}`.
fn turn_of(turn: &Json) -> Option<(&str, &Map<String, Json>)> {
    let turn = turn.as_object()?;
    let role = turn.get("role").or_else(|| turn.get("from"))?.as_str()?;
    Some((role, turn))
}

/// The text that a value is or holds: parts of a message together, of other lists the first.
fn text_in(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Array(list) => parts_text(list)
            .or_else(|| list.iter().filter(|item| may_speak(item)).find_map(text_in)),
        Json::Object(object) => text_within(object, &WITHIN),
        Json::Null | Json::Bool(_) | Json::Number(_) => None,
    }
}

/// The text of the first of `fields` that holds one; in place of none, or of an empty one, what
/// OpenAI's API has as a refusal.
fn text_within(object: &Map<String, Json>, fields: &[&str]) -> Option<String> {
    let text = fields.iter().find_map(|name| text_in(object.get(*name)?));
    let refusal = object.get(REFUSAL).and_then(Json::as_str);
    match refusal.filter(|refusal| !refusal.trim().is_empty()) {
        Some(refusal) if text.as_ref().is_none_or(|text| text.trim().is_empty()) => {
            Some(refusal.to_owned())
        }
        _ => text,
    }
}

/// The text of a message in parts; None if no part is text.
fn parts_text(list: &[Json]) -> Option<String> {
    let text = |part: &Json| {
        let kind = part.get("type")?.as_str()?;
        let field = TEXT_PARTS.iter().find(|(name, _)| *name == kind)?.1;
        Some(part.get(field)?.as_str()?.to_owned())
    };
    let texts: Vec<String> = list.iter().filter_map(text).collect();
    (!texts.is_empty()).then(|| texts.concat())
}

/// False for an item of a list that is no text by its type: a thought, or a part like the call of a
/// tool. An item with parts of its own may be of any other type.
fn may_speak(item: &Json) -> bool {
    let Some(kind) = item.get("type").and_then(Json::as_str) else { return true };
    let is_text = TEXT_PARTS.iter().any(|(name, _)| *name == kind);
    let has_parts = [MESSAGE, "content"].iter().any(|name| item.get(*name).is_some());
    is_text || (has_parts && !THOUGHTS.contains(&kind))
}

/// The first text in a value, however deep.
fn first_string(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Array(list) => list.iter().find_map(first_string),
        Json::Object(object) => object.values().find_map(first_string),
        Json::Null | Json::Bool(_) | Json::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Fields and texts of request and answer, as they are guessed.
    fn guessed(record: Json) -> [String; 4] {
        let record = record.as_object().unwrap().clone();
        let answer = guess_answer(&record).unwrap();
        let request = guess_request(&record, answer).unwrap();
        let texts = [request_of(&record, &request), answer_in(&record[answer])];
        let [asked, answered] = texts.map(Option::unwrap);
        [request, asked, answer.to_owned(), answered]
    }

    #[test]
    fn answers_are_found_in_the_shapes_that_tools_write() {
        let chat = json!([
            {"role": "system", "content": "s"}, {"role": "user", "content": "q"},
            {"role": "assistant", "content": [{"type": "text", "text": "a"}]},
        ]);
        let choices = json!([{"message": {"role": "assistant", "content": "a"}}]);
        for (record, request, answer) in [
            (json!({"prompt": "q", "response": "a"}), "prompt", "response"),
            (json!({"question": "q", "answer": "gold", "output": "a"}), "question", "output"),
            (json!({"text": "q", "completion": "a"}), "text", "completion"),
            (json!({"prompt": "q", "text": "a"}), "prompt", "text"),
            (json!({"Behavior": "q", "Generation": "a"}), "Behavior", "Generation"),
            (json!({"input": "q", "output": "a"}), "input", "output"),
            (json!({"messages": chat}), "messages", "messages"),
            (
                json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt",
                "value": "a"}]}),
                "conversations",
                "conversations",
            ),
            (json!({"prompt": "q", "choices": choices}), "prompt", "choices"),
            (json!({"prompt": "q", "choices": [{"text": "a"}]}), "prompt", "choices"),
            (
                json!({"request": "q", "response": {"body": {"choices": choices}}}),
                "request",
                "response",
            ),
            (
                json!({"prompt": [{"role": "user", "content": "q"}], "outputs": [{"text": "a"}]}),
                "prompt",
                "outputs",
            ),
            (
                json!({"query": "q", "output": [{"type": "reasoning", "content": []},
                {"type": "message", "content": [{"type": "output_text", "text": "a"}]}]}),
                "query",
                "output",
            ),
            (
                json!({"doc": {"question": "q", "id": 1}, "resps": [["a", "b"]], "target": "t",
                "filtered_resps": ["c"]}),
                "doc.question",
                "resps",
            ),
            (
                json!({"doc": {"x": "y"}, "resps": [["a"]], "arguments": {"gen_args_0":
                {"arg_0": "q", "arg_1": {"until": ["."]}}}}),
                "arguments",
                "resps",
            ),
        ] {
            let expected = [request, "q", answer, "a"].map(String::from);
            assert_eq!(guessed(record.clone()), expected, "{record}");
        }
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        let no_answer = json!({
            "response": null, "output": 3, "answer": {"id": 1},
            "messages": [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "q"}],
        });
        assert_eq!(guess_answer(no_answer.as_object().unwrap()), None);
        let alone = json!({"text": "a"});
        assert_eq!(guess_request(alone.as_object().unwrap(), "text"), None);
    }

    #[test]
    fn what_an_item_expects_or_offers_is_not_taken_for_an_answer() {
        let asked = json!({"role": "user", "content": "q"});
        let answered = json!({"role": "assistant", "content": "a"});
        for (record, expected) in [
            (json!({"question": "q", "answer": "4", "prediction": "a"}), Some("prediction")),
            (json!({"answer": "4", "messages": [asked, answered]}), Some("messages")),
            (json!({"answer": "4", "text": "t", "message": answered}), Some("message")),
            (json!({"answer": "4", "choices": [{"message": answered}]}), Some("choices")),
            (json!({"message": "q", "answer": "a"}), Some("answer")),
            (json!({"prompt": "q", "message": "a"}), Some("message")),
            (json!({"choices": ["three", "four"], "answer": "four"}), Some("answer")),
            (json!({"choices": ["three", "four"], "answer": 1}), None),
            (json!({"choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answer": 1}), None),
            (json!({"Choices": [{"label": "A", "text": "a"}, {"label": "B", "text": "b"}]}), None),
        ] {
            assert_eq!(guess_answer(record.as_object().unwrap()), expected, "{record}");
        }
    }

    #[test]
    fn thoughts_and_calls_of_tools_are_not_the_answer() {
        let thought = json!({"type": "reasoning", "content": [
            {"type": "reasoning_text", "text": "I could help."}]});
        let said = json!({"type": "message", "content": [{"type": "output_text", "text": "a"}]});
        for (value, expected) in [
            (json!([thought, said]), Some("a")),
            (json!({"body": {"output": [thought, said]}}), Some("a")),
            (json!([thought]), None),
            (
                json!([{"type": "thinking", "content": "Hm."}, {"type": "text", "text": "a"}]),
                Some("a"),
            ),
            (json!([{"type": "tool_call", "text": "f()"}, said]), Some("a")),
            (json!([{"type": "summary_text", "text": "Hm."}]), None),
            (json!([{"type": "text", "text": {"value": "a", "annotations": []}}]), Some("a")),
            (json!([{"type": "ai", "content": "a"}]), Some("a")),
        ] {
            assert_eq!(answer_in(&value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn a_refusal_in_its_own_field_is_the_answer() {
        let message = json!({"role": "assistant", "content": null, "refusal": "No."});
        for (value, expected) in [
            (json!({"message": message}), Some("No.")),
            (json!([{"message": message}]), Some("No.")),
            (json!([message]), Some("No.")),
            (json!({"content": "", "refusal": "No."}), Some("No.")),
            (json!({"content": "a", "refusal": null}), Some("a")),
            (json!({"content": "a", "refusal": "No."}), Some("a")),
            (json!({"content": null, "refusal": " "}), None),
            (json!({"content": [{"type": "refusal", "refusal": "No."}]}), Some("No.")),
            (
                json!([{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]),
                Some("No."),
            ),
        ] {
            assert_eq!(answer_in(&value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn an_instruction_goes_on_in_its_input() {
        let alpaca = json!({"instruction": "Sort", "input": "c, a", "output": "a, c"});
        let expected = ["instruction", "Sort\n\nc, a", "output", "a, c"].map(String::from);
        assert_eq!(guessed(alpaca), expected);
    }

    #[test]
    fn a_dot_leads_into_an_object_unless_a_name_has_it() {
        let record = json!({"a.b": 1, "a": {"b": 2, "c": {"d": 3}}});
        let record = record.as_object().unwrap();
        assert_eq!(at(record, "a.b"), Some(&json!(1)));
        assert_eq!(at(record, "a.c.d"), Some(&json!(3)));
        assert_eq!((at(record, "a.x"), at(record, "b")), (None, None));
    }

    #[test]
    fn sets_and_errors_are_names_and_reasons() {
        let set = |record: Json| guess_set(record.as_object().unwrap()).map(str::to_owned);
        assert_eq!(set(json!({"category": "x", "set": "y"})).as_deref(), Some("set"));
        assert_eq!(
            set(json!({"set": null, "SemanticCategory": 3})).as_deref(),
            Some("SemanticCategory")
        );
        assert_eq!(set(json!({"set": " "})), None);
        let error = |record: Json| error_of(record.as_object().unwrap());
        assert_eq!(error(json!({"error": "too long"})).as_deref(), Some("too long"));
        assert_eq!(error(json!({"error": {"code": 1}})).as_deref(), Some(r#"{"code":1}"#));
        let failed = json!({"response": {"status_code": 400, "body": {"error": {"code": 1}}}});
        assert_eq!(error(failed).as_deref(), Some(r#"{"code":1}"#));
        for none in
            [json!({"error": null}), json!({"error": ""}), json!({}), json!({"error": false})]
        {
            assert_eq!(error(none), None);
        }
    }
}
