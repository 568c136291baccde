//! Quoting for Dockerfiles. Spec: Dockerfile reference, “Environment replacement”, “Exec form”.

use super::Unsayable;

/// A text for a comment: on one line.
pub(super) fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A JSON list, as exec forms have it. Not expanded by the builder.
pub(super) fn json_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    serde_json::to_string(&words).expect("strings can be written as JSON")
}

/// A value in double quotes, as `ENV` and `LABEL` take it.
pub(super) fn quoted(what: &'static str, text: &str) -> Result<String, Unsayable> {
    let mut quoted = String::from("\"");
    for c in one_line(what, text)?.chars() {
        if matches!(c, '"' | '\\' | '$') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    Ok(quoted)
}

/// The rest of a line, as `WORKDIR` and `USER` take it.
pub(super) fn line(what: &'static str, text: &str) -> Result<String, Unsayable> {
    let plain = one_line(what, text)?;
    if plain.is_empty() || plain.trim() != plain || plain.contains(['"', '\'', '\\']) {
        return Err(Unsayable::Text { what, text: text.to_owned() });
    }
    Ok(plain.replace('$', "\\$"))
}

/// The value of a flag such as `--chown`, or of one key of `--mount`: neither takes blanks or quotes.
pub(super) fn flag(what: &'static str, text: &str) -> Result<String, Unsayable> {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@%+=~*?[]!^".contains(c);
    if text.chars().all(plain) { Ok(text.to_owned()) } else { Err(Unsayable::Text { what, text: text.to_owned() }) }
}

/// Sources and destination of a `COPY` or `ADD`.
pub(super) fn paths(paths: &[&str]) -> Result<String, Unsayable> {
    let plain = |path: &&str| path.chars().all(|c| c.is_alphanumeric() || "-_./:@%+=~*?,#&".contains(c));
    for path in paths {
        one_line("a path", path)?;
    }
    if paths.iter().all(plain) && !paths.concat().contains("<<") {
        return Ok(paths.join(" "));
    }
    // The builder still expands words of the JSON form.
    let escaped: Vec<String> = paths
        .iter()
        .map(|path| {
            let escape = |c| if matches!(c, '"' | '\'' | '\\' | '$') { vec!['\\', c] } else { vec![c] };
            path.chars().flat_map(escape).collect()
        })
        .collect();
    Ok(json_list(escaped.iter().map(String::as_str)))
}

/// A path as a pattern that matches it and nothing else.
pub(super) fn literal_pattern(path: &str) -> Result<String, Unsayable> {
    let mut pattern = String::new();
    for c in path.chars() {
        match c {
            '*' | '?' | '[' => pattern.extend(['[', c, ']']),
            '\\' => return Err(Unsayable::Text { what: "a path", text: path.to_owned() }),
            c => pattern.push(c),
        }
    }
    Ok(pattern)
}

fn one_line<'a>(what: &'static str, text: &'a str) -> Result<&'a str, Unsayable> {
    if text.chars().any(char::is_control) {
        return Err(Unsayable::Text { what, text: text.escape_debug().to_string() });
    }
    Ok(text)
}

/// A word that ends a here-document of this content.
pub(super) fn delimiter(content: &str) -> String {
    let mut delimiter = String::from("EOF");
    while content.lines().any(|line| line == delimiter) {
        delimiter.push('_');
    }
    delimiter
}
