//! Diagnostics as text for people and as JSON for programs.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use diag::{Diagnostic, Label, Source};
use serde::Serialize;

use super::text::{neutralise, neutralise_lines};

/// Width used where no terminal says its own.
const DEFAULT_COLUMNS: usize = 100;

/// How failures are written, `--error-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorFormat {
    /// Text with the marked source lines.
    #[default]
    Text,
    /// One JSON object in a line.
    Json,
}

impl ErrorFormat {
    /// The format named by a command line value.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        match value {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The diagnostic as text, without a final line break: the message, the marked places, causes as notes, help, and
/// blocks of output that belong to it.
#[must_use]
pub fn render(diagnostic: &Diagnostic, columns: Option<usize>, color: bool) -> String {
    let title = Level::ERROR.primary_title(&*diagnostic.message).id(diagnostic.code.slug);
    let causes = diagnostic.causes.iter().map(|cause| Level::NOTE.message(neutralise_lines(cause)));
    let help = diagnostic.help.iter().map(|help| Level::HELP.message(neutralise_lines(help)));
    let group = Group::with_title(title).elements(snippets(&diagnostic.labels)).elements(causes).elements(help);
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = renderer.term_width(columns.unwrap_or(DEFAULT_COLUMNS)).render(&[group]);
    for related in &diagnostic.related {
        out.push_str("\n\n");
        out.push_str(&neutralise(&related.title));
        out.push(':');
        for line in &related.lines {
            out.push_str("\n  | ");
            out.push_str(&neutralise(line));
        }
    }
    out
}

/// One snippet for each source, in the order they are first mentioned. The first label is the main one.
fn snippets(labels: &[Label]) -> Vec<Snippet<'_, Annotation<'_>>> {
    let mut sources: Vec<&Source> = Vec::new();
    for label in labels {
        if !sources.contains(&&label.source) {
            sources.push(&label.source);
        }
    }
    let snippet = |source: &'_ Source| -> Vec<Annotation<'_>> {
        labels
            .iter()
            .enumerate()
            .filter(|(_, label)| label.source == *source)
            .map(|(position, label)| {
                let kind = if position == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                let range = within(&label.source, label.span.start, label.span.end);
                let text = (!label.text.is_empty()).then(|| neutralise_lines(&label.text));
                kind.span(range).label(text)
            })
            .collect()
    };
    sources
        .into_iter()
        .map(|source| {
            Snippet::source(source.text()).path(neutralise(source.name())).fold(true).annotations(snippet(source))
        })
        .collect()
}

/// The range moved into the text and onto character boundaries: a wrong span must not cost the message.
fn within(source: &Source, start: usize, end: usize) -> std::ops::Range<usize> {
    let text = source.text();
    let floor = |offset: usize| text.floor_char_boundary(offset.min(text.len()));
    let start = floor(start);
    start..floor(end).max(start)
}

#[derive(Serialize)]
struct Json<'a> {
    code: &'a str,
    message: &'a str,
    file: Option<&'a str>,
    line: Option<usize>,
    column: Option<usize>,
    span: Option<JsonSpan>,
    labels: Vec<JsonLabel<'a>>,
    causes: &'a [String],
    help: &'a [String],
    related: Vec<JsonRelated<'a>>,
    exit: u8,
}

#[derive(Clone, Copy, Serialize)]
struct JsonSpan {
    start: usize,
    end: usize,
}

#[derive(Serialize)]
struct JsonLabel<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    span: JsonSpan,
    text: &'a str,
}

#[derive(Serialize)]
struct JsonRelated<'a> {
    title: &'a str,
    lines: &'a [String],
}

/// The diagnostic as one line of JSON: `file`, `line` and `column` (both from 1, columns in characters) and `span` (byte
/// offsets) are those of the first label, and null where there is none.
#[must_use]
pub fn to_json(diagnostic: &Diagnostic) -> String {
    let labels: Vec<JsonLabel<'_>> = diagnostic
        .labels
        .iter()
        .map(|label| {
            let place = label.source.line_column(label.span.start);
            JsonLabel {
                file: label.source.name(),
                line: place.line,
                column: place.column,
                span: JsonSpan { start: label.span.start, end: label.span.end },
                text: &label.text,
            }
        })
        .collect();
    let first = labels.first();
    let json = Json {
        code: diagnostic.code.slug,
        message: &diagnostic.message,
        file: first.map(|label| label.file),
        line: first.map(|label| label.line),
        column: first.map(|label| label.column),
        span: first.map(|label| label.span),
        causes: &diagnostic.causes,
        help: &diagnostic.help,
        related: diagnostic
            .related
            .iter()
            .map(|related| JsonRelated { title: &related.title, lines: &related.lines })
            .collect(),
        exit: diagnostic.code.exit.status(),
        labels,
    };
    serde_json::to_string(&json).expect("a struct of strings and numbers is always JSON")
}

#[cfg(test)]
mod tests {
    use diag::{Span, codes};
    use insta::assert_snapshot;

    use super::*;

    fn recipe() -> Source {
        Source::new(
            "runtimes/x/recipe.toml",
            "schema = 1\n\n[image]\nbaes = \"node\"\nuser = { name = \"claw\", uid = 1000 }\nports = [8080]\n",
        )
    }

    fn span_of(source: &Source, text: &str) -> Span {
        let start = source.text().find(text).unwrap();
        Span::new(start..start + text.len())
    }

    fn unknown_key() -> Diagnostic {
        let source = recipe();
        Diagnostic::new(codes::cli::BUG, "unknown key `baes` in `[image]`")
            .label(&source, span_of(&source, "baes"), "not a key of `[image]`")
            .help("did you mean `base`?")
    }

    #[test]
    fn a_mistake_in_a_recipe() {
        assert_snapshot!(render(&unknown_key(), None, false), @r#"
        error[cli/bug]: unknown key `baes` in `[image]`
         --> runtimes/x/recipe.toml:4:1
          |
        4 | baes = "node"
          | ^^^^ not a key of `[image]`
          |
          = help: did you mean `base`?
        "#);
    }

    #[test]
    fn in_color() {
        assert_snapshot!(render(&unknown_key(), None, true).replace('\x1b', "ESC"), @r#"
        ESC[1mESC[91merror[cli/bug]ESC[0mESC[1m: unknown key `baes` in `[image]`ESC[0m
         ESC[1mESC[94m--> ESC[0mruntimes/x/recipe.toml:4:1
          ESC[1mESC[94m|ESC[0m
        ESC[1mESC[94m4ESC[0m ESC[1mESC[94m|ESC[0m baes = "node"
          ESC[1mESC[94m|ESC[0m ESC[1mESC[91m^^^^ESC[0m ESC[1mESC[91mnot a key of `[image]`ESC[0m
          ESC[1mESC[94m|ESC[0m
          ESC[1mESC[94m= ESC[0mESC[1mhelpESC[0m: did you mean `base`?
        "#);
    }

    #[test]
    fn several_places_in_two_files() {
        let (source, lock) = (recipe(), Source::new("clawbuild.lock", "version = 1\nbase = \"static\"\n"));
        let diagnostic = Diagnostic::new(codes::cli::BUG, "`clawbuild.lock` does not fit the recipe")
            .label(&source, span_of(&source, "\"node\""), "the recipe asks for `node`")
            .label(&lock, span_of(&lock, "\"static\""), "locked to `static`")
            .label(&source, span_of(&source, "[8080]"), "");
        assert_snapshot!(render(&diagnostic, None, false), @r#"
        error[cli/bug]: `clawbuild.lock` does not fit the recipe
         --> runtimes/x/recipe.toml:4:8
          |
        4 | baes = "node"
          |        ^^^^^^ the recipe asks for `node`
        5 | user = { name = "claw", uid = 1000 }
        6 | ports = [8080]
          |         ------
          |
         ::: clawbuild.lock:2:8
          |
        2 | base = "static"
          |        -------- locked to `static`
        "#);
    }

    #[test]
    fn causes_help_and_output_without_a_place() {
        let diagnostic = Diagnostic::new(codes::cli::BUG, "step `pnpm install` failed")
            .cause("the command ended with status 1")
            .cause("two lines:\nof cause")
            .help("run it again with `--no-cache`")
            .help("or fix it")
            .related("last 2 lines of `pnpm install`", vec!["ERR_PNPM \x1b[31mred\x1b[0m".into(), "\tat x.js".into()]);
        assert_snapshot!(render(&diagnostic, None, false), @"
        error[cli/bug]: step `pnpm install` failed
         |
         = note: the command ended with status 1
         = note: two lines:
                 of cause
         = help: run it again with `--no-cache`
         = help: or fix it

        last 2 lines of `pnpm install`:
          | ERR_PNPM red
          |         at x.js
        ");
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let source = Source::new("a.toml", format!("key = \"{}\" # {}\n", "x".repeat(40), "y".repeat(200)));
        let diagnostic = Diagnostic::new(codes::cli::BUG, "too long").label(&source, Span::new(6..48), "here");
        assert_snapshot!(render(&diagnostic, Some(60), false), @r#"
        error[cli/bug]: too long
         --> a.toml:1:7
          |
        1 | key = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" # yy...
          |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ here
        "#);
    }

    #[test]
    fn hostile_text_and_wrong_spans_do_no_harm() {
        let source = Source::new("odd\x1b[2J.toml", "a = \"\x1b[31mé\"\r\nb = 1");
        for (start, end) in [(0, 3), (10, 11), (11, 11), (5, 3), (900, 901), (usize::MAX, usize::MAX), (17, 19)] {
            let diagnostic = Diagnostic::new(codes::cli::BUG, "evil \x1b]0;x\x07 message")
                .label(&source, Span { start, end }, "\x1b[2J")
                .cause("\x1b[2J")
                .help("\x07");
            assert!(!render(&diagnostic, Some(20), false).contains(['\x1b', '\x07']));
        }
        let empty = Source::new("empty.toml", "");
        let diagnostic = Diagnostic::new(codes::cli::BUG, "empty").label(&empty, Span::new(0..0), "nothing here");
        assert_snapshot!(render(&diagnostic, None, false), @"
        error[cli/bug]: empty
         --> empty.toml:1:1
          |
        1 |
          | ^ nothing here
        ");
    }

    #[test]
    fn as_json() {
        assert_snapshot!(to_json(&unknown_key()), @r#"{"code":"cli/bug","message":"unknown key `baes` in `[image]`","file":"runtimes/x/recipe.toml","line":4,"column":1,"span":{"start":20,"end":24},"labels":[{"file":"runtimes/x/recipe.toml","line":4,"column":1,"span":{"start":20,"end":24},"text":"not a key of `[image]`"}],"causes":[],"help":["did you mean `base`?"],"related":[],"exit":70}"#);
        assert_snapshot!(to_json(&Diagnostic::new(codes::cli::INTERRUPTED, "interrupted").cause("SIGINT")), @r#"{"code":"cli/interrupted","message":"interrupted","file":null,"line":null,"column":null,"span":null,"labels":[],"causes":["SIGINT"],"help":[],"related":[],"exit":130}"#);
    }
}
