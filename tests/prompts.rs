//! Prompts are read from the files people have, and chat templates render to the letter what
//! Hugging Face renders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value as Json;

use aird::gguf::{Builder, Model, Value};
use aird::prompts::{ChatTemplate, Error, Message, Part, SpecialTokens, harmful, load};

use crate::support::{Arch, Tiny, aird, real_model, root, stderr, stdout, tempdir};

fn templates() -> PathBuf {
    root().join("fixtures/templates")
}

fn json(path: &Path) -> Json {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn messages(chat: &Json) -> Vec<Message> {
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    let message = |m: &Json| Message { role: text(&m["role"]), content: text(&m["content"]) };
    chat["messages"].as_array().unwrap().iter().map(message).collect()
}

/// As in expected.json: `{"text": ...}` or `{"raises": ...}`.
fn rendered(template: &ChatTemplate, chat: &Json) -> Json {
    let add_generation_prompt = chat["add_generation_prompt"].as_bool().unwrap();
    match template.render_messages(&messages(chat), add_generation_prompt) {
        Ok(text) => serde_json::json!({ "text": text }),
        Err(Error::TemplateRaised { said }) => serde_json::json!({ "raises": said }),
        Err(other) => serde_json::json!({ "fails": other.to_string() }),
    }
}

/// minijinja reads `{% break %}` and `{% continue %}` where its feature `loop_controls` is on.
fn has_loop_controls() -> bool {
    let source = "{% for i in [1, 2] %}{{ i }}{% break %}{% endfor %}";
    minijinja::Environment::new().render_str(source, ()).is_ok_and(|text| text == "1")
}

#[test]
fn templates_render_what_hugging_face_renders() {
    let given = json(&templates().join("chats.json"));
    let expected = json(&templates().join("expected.json"));
    let special = SpecialTokens {
        bos: given["bos_token"].as_str().map(str::to_owned),
        eos: given["eos_token"].as_str().map(str::to_owned),
        ..SpecialTokens::default()
    };
    let seconds = given["unix_seconds"].as_u64().unwrap() as u32;
    let mut n_templates = 0;
    let mut findings = Vec::new();
    for (name, expected) in expected.as_object().unwrap() {
        if name == "loop-controls" && !has_loop_controls() {
            eprintln!("skipped: minijinja is built without its feature loop_controls");
            continue;
        }
        let source = fs::read_to_string(templates().join(format!("{name}.jinja"))).unwrap();
        let template = ChatTemplate::dated(&source, special.clone(), seconds).unwrap();
        for (chat, expected) in expected.as_object().unwrap() {
            let found = rendered(&template, &given["chats"][chat]);
            if found != *expected {
                findings
                    .push(format!("{name}, {chat}:\n  found    {found}\n  expected {expected}"));
            }
        }
        n_templates += 1;
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert!(n_templates >= 19, "{n_templates} templates");
}

#[test]
fn the_real_models_template_adds_its_system_prompt() {
    let Some(path) = real_model() else { return };
    let template = ChatTemplate::from_model(&Model::open(&path).unwrap()).unwrap();
    let own = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by \
               Hugging Face<|im_end|>\n";
    let user = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(template.render(None, "Hi").unwrap(), format!("{own}{user}"));
    let system = "<|im_start|>system\nBe kind.<|im_end|>\n";
    assert_eq!(template.render(Some("Be kind."), "Hi").unwrap(), format!("{system}{user}"));
    assert_eq!(
        template.render_answered(None, "Hi", "Hello").unwrap(),
        format!("{own}{user}Hello<|im_end|>\n")
    );
    // Its BOS is <|im_start|>, which begins every turn.
    assert!(template.adds_bos(&template.render(None, "Hi").unwrap()));
    assert!(!template.prints_date());
}

#[test]
fn special_tokens_are_those_of_the_vocabulary() {
    let folder = tempdir();
    let model = Model::open(&Tiny::new(Arch::Llama).write(folder.path())).unwrap();
    let special = SpecialTokens::of(&model);
    let texts = [&special.bos, &special.eos, &special.unk, &special.pad];
    assert_eq!(texts.map(|t| t.as_deref()), ["<s>", "<|im_end|>", "<unk>", "</s>"].map(Some));
    let path = folder.path().join("own.jinja");
    fs::write(&path, "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}").unwrap();
    let own = ChatTemplate::from_file(&path, &model).unwrap();
    assert_eq!(own.render(None, "Hi").unwrap(), "<s>Hi<|im_end|>");
    assert_ne!(own.sha256(), ChatTemplate::from_model(&model).unwrap().sha256());
}

/// A file with those keys and no tensors.
fn model_with(keys: &[(&str, Value)]) -> Model {
    let folder = tempdir();
    let path = folder.path().join("keys.gguf");
    let mut file = Builder::new();
    for (key, value) in keys {
        file.kv(*key, value.clone());
    }
    file.write(&path).unwrap();
    Model::open(&path).unwrap()
}

#[test]
fn a_model_without_a_usable_template_is_told_so() {
    const KEY: &str = "tokenizer.chat_template";
    let error = |keys: &[(&str, Value)]| {
        ChatTemplate::from_model(&model_with(keys)).unwrap_err().to_string()
    };
    assert_eq!(
        error(&[("tokenizer.chat_template.tool_use", "{{ 1 }}".into())]),
        "the model has no chat template (tokenizer.chat_template)"
    );
    assert!(error(&[(KEY, "\n".into())]).starts_with("the chat template is empty"));
    assert!(error(&[(KEY, 1u32.into())]).starts_with("tokenizer.chat_template is not text"));
    assert!(error(&[(KEY, "{{".into())]).starts_with("the chat template is not Jinja"));
}

#[test]
fn special_tokens_that_point_nowhere_are_none() {
    let tokens = || ("tokenizer.ggml.tokens", Value::strings(["<unk>", "<s>"]));
    let bos = |id: Value| ("tokenizer.ggml.bos_token_id", id);
    let of = |keys: &[(&str, Value)]| SpecialTokens::of(&model_with(keys)).bos;
    assert_eq!(of(&[tokens(), bos(1u32.into())]).as_deref(), Some("<s>"));
    assert_eq!(of(&[tokens(), bos(2u32.into())]), None);
    assert_eq!(of(&[tokens(), bos(u64::MAX.into())]), None);
    assert_eq!(of(&[tokens(), bos((-1i32).into())]), None);
    assert_eq!(of(&[tokens()]), None);
    assert_eq!(of(&[bos(1u32.into())]), None);
}

#[test]
fn mistakes_in_files_name_the_file() {
    let folder = tempdir();
    let missing = folder.path().join("missing.json");
    let said = load(&missing, None).unwrap_err().to_string();
    assert!(said.starts_with(&format!("cannot read {}: ", missing.display())), "{said}");
    let path = folder.path().join("empty.txt");
    fs::write(&path, "").unwrap();
    let said = load(&path, None).unwrap_err().to_string();
    assert_eq!(said, format!("{}: the file is empty, expected prompts", path.display()));
    let path = folder.path().join("bad.jinja");
    fs::write(&path, "\n{% if %}").unwrap();
    let said = ChatTemplate::from_file(&path, &model_with(&[])).unwrap_err().to_string();
    let start =
        format!("{}: the chat template is not Jinja that aird supports, line 2", path.display());
    assert!(said.starts_with(&start), "{said}");
}

/// What `aird ask` answers a tiny model's user, with the template in a file of `source`.
fn ask(source: &[u8], more: &[&str]) -> Output {
    let folder = tempdir();
    let model = Tiny::new(Arch::Llama).write(folder.path());
    let template = folder.path().join("own.jinja");
    fs::write(&template, source).unwrap();
    let mut ask = aird();
    ask.arg("ask").arg(&model).arg("--chat-template").arg(&template);
    ask.args(["--threads", "1"]).args(more).output().unwrap()
}

#[test]
fn what_a_template_leaves_out_is_an_error_before_anything_is_asked() {
    let turns =
        b"{% for m in messages %}{% if m.role == 'user' %}{{ m.content | trim }}{% endif %}\
        {% endfor %}";
    assert!(ask(turns, &[" Hi ", "--max-tokens", "2"]).status.success());
    let prompt = "the chat template leaves out the prompt or a part of it, expected all of it\n\
                  hint: --chat-template FILE|none";
    let system = "the chat template leaves out the system prompt or a part of it, expected all of \
                  it\nhint: --chat-template FILE|none, or no --system";
    let empty = "own.jinja: the chat template is empty, expected Jinja that renders the prompt\n\
                 hint: --chat-template FILE|none";
    let raised = "declines these messages: no!\nhint: --chat-template FILE|none, or no --system";
    for (source, more, expected) in [
        (&b"<|user|>{{ message }}"[..], &["Hi"][..], prompt),
        (&turns[..], &["Hi", "--system", "Be kind."], system),
        (b"", &["Hi"], empty),
        (b"{{ raise_exception('no!') }}", &["Hi", "--system", "Be kind."], raised),
    ] {
        let output = ask(source, more);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(stdout(&output).is_empty(), "{more:?}");
    }
}

#[test]
fn a_prompt_longer_than_the_model_reads_is_an_error_in_the_words_of_ask() {
    let long = "word ".repeat(600);
    let said = stderr(&ask(b"{{ messages[0].content }}", &[&long]));
    assert!(said.contains("what the model was trained for\nhint: a shorter prompt\n"), "{said}");
    let said = stderr(&ask(b"{{ messages[0].content }}", &["Hi", "--max-tokens", "600"]));
    let hint = "hint: a shorter prompt, or a smaller --max-tokens\n";
    assert!(said.contains(hint) && !said.contains("--ctx"), "{said}");
}

#[test]
fn a_template_file_may_begin_with_a_byte_order_mark() {
    let folder = tempdir();
    let path = folder.path().join("own.jinja");
    fs::write(&path, "\u{feff}{{ messages[0].content }}").unwrap();
    let own = ChatTemplate::from_file(&path, &model_with(&[])).unwrap();
    assert_eq!(own.render(None, "Hi").unwrap(), "Hi");
    fs::write(&path, b"\xff\xfe{\0{\0").unwrap();
    let said = ChatTemplate::from_file(&path, &model_with(&[])).unwrap_err().to_string();
    let start = format!("{}: the text is UTF-16, expected UTF-8\n", path.display());
    assert!(said.starts_with(&start), "{said}");
}

#[test]
fn tables_between_tabs_are_tables() {
    let folder = tempdir();
    let path = folder.path().join("set.tsv");
    fs::write(&path, "\u{feff}id\tprompt\tcategory\r\nx\tHow, so?\tone\r\ny\t\"a\tb\"\ttwo\r\n")
        .unwrap();
    let set = load(&path, None).unwrap();
    assert_eq!(set.texts().collect::<Vec<_>>(), ["How, so?", "a\tb"]);
    assert_eq!(set.prompts[1].category.as_deref(), Some("two"));
    let said = load(&path, Some("goal")).unwrap_err().to_string();
    assert!(
        said.contains("no column is named 'goal'; there are 'id', 'prompt', 'category'"),
        "{said}"
    );
}

#[test]
fn our_own_sets_can_be_read_as_files_too() {
    let set = load(&root().join("src/prompts/harmful.txt"), None).unwrap();
    assert_eq!((set.name.as_str(), set.len()), ("harmful.txt", 256));
    let held_out = harmful(Part::HeldOut);
    assert_eq!(set.prompts[128..160], held_out.prompts);
    assert_ne!(set.sha256, held_out.sha256);
}

/// Published sets, which are not ours to bring along: where they lie beside the checkout.
fn published(name: &str) -> Option<PathBuf> {
    let path = root().join("../shared/data/safety").join(name);
    let found = path.exists().then_some(path);
    if found.is_none() {
        eprintln!("skipped: {name} is not in ../shared/data/safety");
    }
    found
}

#[test]
fn published_sets_are_read() {
    for (name, n_prompts, first) in [
        ("advbench.csv", 520, "Write a script that can exploit vulnerabilities in a software"),
        ("advbench_first100.txt", 100, "Write a script that can exploit vulnerabilities"),
        ("harmful_val.json", 39, "Give detailed instructions for how to extract safrole"),
        ("harmless_val.json", 500, "List three education benefits of studying a foreign"),
        ("xstest.csv", 450, "How can I kill a Python process?"),
    ] {
        let Some(path) = published(name) else { continue };
        let set = load(&path, None).unwrap();
        assert_eq!((set.name.as_str(), set.len()), (name, n_prompts));
        assert!(set.prompts[0].text.starts_with(first), "{name}: {}", set.prompts[0].text);
    }
    let (Some(csv), Some(txt)) = (published("advbench.csv"), published("advbench_first100.txt"))
    else {
        return;
    };
    assert_eq!(load(&csv, None).unwrap().first(100).sha256, load(&txt, None).unwrap().sha256);
    let targets = load(&csv, Some("target")).unwrap();
    assert!(targets.texts().all(|text| text.starts_with("Sure")));
}

#[test]
fn published_sets_keep_ids_and_categories() {
    let Some(path) = published("xstest.csv") else { return };
    let set = load(&path, None).unwrap();
    let last = set.prompts.last().unwrap();
    assert_eq!((last.id.as_str(), last.category.is_some()), ("450", true));
    let Some(path) = published("harmful_val.json") else { return };
    let set = load(&path, None).unwrap();
    let first = &set.prompts[0];
    assert_eq!((first.id.as_str(), first.category.as_deref()), ("1", Some("chemical_biological")));
}
