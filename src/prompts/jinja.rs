//! The Jinja that chat templates are written for: Python's, as Hugging Face sets it up in
//! `transformers/utils/chat_template_utils.py`.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Value};

use super::clock::Moment;
use super::error::{Error, Result};
use super::filters;
use super::generation::without_generation_tags;
use super::methods;

/// The one template of an environment.
const NAME: &str = "chat template";

/// An environment that holds `source` and knows what chat templates may call.
///
/// # Errors
/// The source does not parse.
pub(super) fn environment(source: &str, moment: Moment) -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|e| syntax_error(&e))?);
    // Names what is undefined, in release builds as well.
    environment.set_debug(true);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(methods::call);
    filters::add(&mut environment);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", move |format: &str| moment.strftime(format));
    let source = without_generation_tags(&with_bare_newlines(source));
    environment.add_template_owned(NAME, source).map_err(|e| syntax_error(&e))?;
    Ok(environment)
}

/// Renders the template of such an environment.
///
/// # Errors
/// The template fails, or raises its own exception.
pub(super) fn render(environment: &Environment<'_>, context: Value) -> Result<String> {
    let template = environment.get_template(NAME).map_err(|e| syntax_error(&e))?;
    // minijinja 3.1 panics where `break` leaves a loop from inside of a `with`.
    let rendered = catch_unwind(AssertUnwindSafe(|| template.render(context)));
    rendered.map_err(|_| Error::TemplatePanics)?.map_err(|e| match raised(&e) {
        Some(said) => Error::TemplateRaised { said },
        None => Error::TemplateFails { line: e.line().unwrap_or(1), what: what(&e) },
    })
}

fn syntax_error(error: &minijinja::Error) -> Error {
    Error::TemplateSyntax { line: error.line().unwrap_or(1), what: what(error) }
}

fn what(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// How a template failed: by its own exception, or by an error of the engine.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(said: String) -> std::result::Result<Value, minijinja::Error> {
    let error = minijinja::Error::new(ErrorKind::InvalidOperation, said.clone());
    Err(error.with_source(Raised(said)))
}

/// The engine may wrap an error on its way out of macros: the whole chain is searched.
fn raised(error: &minijinja::Error) -> Option<String> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(Raised(said)) = error.downcast_ref() {
            return Some(said.clone());
        }
        next = error.source();
    }
    None
}

/// Python's Jinja reads CRLF and CR as LF wherever they stand in a template.
fn with_bare_newlines(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str) -> Result<String> {
        render(&environment(source, Moment::from_unix(1_721_970_000))?, Value::UNDEFINED)
    }

    #[test]
    fn whitespace_goes_where_hugging_face_lets_it_go() {
        let source = "a\r\n  {% if true %}\r\n  b\r\n  {%- endif %}\r\n{# c #}\r\nd \r\n\r\n";
        assert_eq!(rendered(source).unwrap(), "a\n  bd \n");
    }

    #[test]
    fn generation_tags_render_their_body() {
        let source = "{%- generation -%} a {%- endgeneration %}{% generation %}b{%endgeneration%}";
        assert_eq!(rendered(source).unwrap(), "ab");
        let other = "{{ 'generation' }}{% set generation = 1 %}{{ generation }}";
        assert_eq!(rendered(other).unwrap(), "generation1");
    }

    #[test]
    fn a_template_that_breaks_the_engine_is_an_error() {
        let source = "{% for i in [1] %}{% with %}{% break %}{% endwith %}{% endfor %}";
        assert!(matches!(rendered(source), Err(Error::TemplatePanics)));
    }

    #[test]
    fn errors_name_the_line_and_exceptions_their_message() {
        let error = |source: &str| rendered(source).unwrap_err().to_string();
        assert_eq!(
            error("a\n{% if %}"),
            "the chat template is not Jinja that aird supports, line 2: unexpected end of block"
        );
        assert_eq!(
            error("a\n\n{{ messages[0] }}"),
            "the chat template fails in line 3: `messages` is undefined"
        );
        let said = "the chat template declines these messages: no system role";
        assert_eq!(error("{{ raise_exception('no system role') }}"), said);
        let within = "{% macro m() %}{{ raise_exception('no system role') }}{% endmacro %}";
        assert_eq!(error(&format!("{within}{{{{ m() ~ 'a' }}}}")), said);
    }
}
