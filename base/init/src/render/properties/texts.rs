//! Documents in each format, laid out by chance.

use super::model::{Choices, Written};
use super::*;

/// Writes a value as JSON or JSON5, with white space and comments wherever they may be.
pub(super) fn json(value: &Value, dialect: Dialect, choices: &mut Choices<'_>) -> Written {
    let mut written = Written::default();
    let mut json = Json { dialect, choices, written: &mut written };
    json.space();
    json.value(value, &mut Vec::new());
    json.space();
    written
}

struct Json<'a, 'c> {
    dialect: Dialect,
    choices: &'a mut Choices<'c>,
    written: &'a mut Written,
}

impl Json<'_, '_> {
    fn space(&mut self) {
        let space = self.choices.pick(&["", "", " ", "\n", "\n    ", "\t", "\r\n", "//", "/*"]);
        let space = match space {
            "//" | "/*" if self.dialect == Dialect::Json => " ".to_owned(),
            "//" => format!(" // {} , }} ] \"\n", self.written.comment()),
            "/*" => format!(" /* {} , }} ] '\n */", self.written.comment()),
            space => space.to_owned(),
        };
        self.written.push(&space);
    }

    fn value(&mut self, value: &Value, path: &mut Vec<String>) {
        let start = self.written.text.len();
        match value {
            Value::List(items) => {
                self.written.push("[");
                for (index, item) in items.iter().enumerate() {
                    self.space();
                    path.push(index.to_string());
                    self.value(item, path);
                    path.pop();
                    self.space();
                    self.comma(index + 1 == items.len());
                }
                self.space();
                self.written.push("]");
            }
            Value::Map(members) => {
                self.written.push("{");
                for (index, (name, value)) in members.iter().enumerate() {
                    self.space();
                    self.key(name);
                    self.space();
                    self.written.push(":");
                    self.space();
                    path.push(name.clone());
                    self.value(value, path);
                    path.pop();
                    self.space();
                    self.comma(index + 1 == members.len());
                }
                self.space();
                self.written.push("}");
            }
            Value::Text(text) => self.string(text),
            Value::Number(text) => {
                let sign = self.dialect == Dialect::Json5 && !text.starts_with('-') && self.choices.below(4) == 1;
                self.written.push(if sign { "+" } else { "" });
                self.written.push(text);
            }
            Value::Null | Value::Boolean(_) => crate::json::write(value, &mut self.written.text),
        }
        self.written.spans.push((path.clone(), start..self.written.text.len()));
    }

    fn comma(&mut self, is_last: bool) {
        if !is_last || (self.dialect == Dialect::Json5 && self.choices.below(3) == 1) {
            self.written.push(",");
        }
    }

    fn key(&mut self, name: &str) {
        let is_bare = name.starts_with(|char: char| char.is_ascii_alphabetic())
            && name.chars().all(|char| char.is_ascii_alphanumeric());
        if self.dialect == Dialect::Json5 && is_bare && self.choices.below(2) == 1 {
            self.written.push(name);
        } else {
            self.string(name);
        }
    }

    fn string(&mut self, text: &str) {
        if self.dialect == Dialect::Json || self.choices.below(2) == 0 {
            return crate::json::write_string(text, &mut self.written.text);
        }
        self.written.push("'");
        for char in text.chars() {
            match char {
                '\'' | '\\' => self.written.push(&format!("\\{char}")),
                '\0'..='\x1f' => self.written.push(&format!("\\x{:02x}", u32::from(char))),
                '\u{2028}' | '\u{2029}' => self.written.push(&format!("\\u{:04x}", u32::from(char))),
                _ => self.written.text.push(char),
            }
        }
        self.written.push("'");
    }
}

/// Writes a map as YAML, in blocks where that is possible.
pub(super) fn yaml(value: &Value, choices: &mut Choices<'_>) -> Written {
    let mut written = Written::default();
    let newline = if choices.below(4) == 1 { "\r\n" } else { "\n" };
    let mut yaml = Yaml { newline, choices, written: &mut written, is_behind_block: false };
    if yaml.choices.below(3) == 1 {
        yaml.written.push("---");
        yaml.end_of_line();
    }
    yaml.lines_between();
    match value {
        Value::Map(members) if !members.is_empty() => yaml.map(members, 0, true, &mut Vec::new()),
        Value::Map(_) => yaml.lines_between(),
        _ => panic!("documents are maps"),
    }
    if yaml.choices.below(4) == 1 && written.text.ends_with('\n') {
        written.text.truncate(written.text.trim_end_matches(['\r', '\n']).len());
    }
    written
}

struct Yaml<'a, 'c> {
    newline: &'static str,
    /// Whether lines that are indented would belong to a block scalar.
    is_behind_block: bool,
    choices: &'a mut Choices<'c>,
    written: &'a mut Written,
}

impl Yaml<'_, '_> {
    fn end_of_line(&mut self) {
        if self.choices.below(4) == 1 {
            let comment = format!(" # {} : - ' \"", self.written.comment());
            self.written.push(&comment);
        }
        self.written.push(self.newline);
    }

    fn lines_between(&mut self) {
        match self.choices.below(6) {
            1 => self.written.push(self.newline),
            2 => {
                let indent = " ".repeat(self.choices.below(6) * usize::from(!self.is_behind_block));
                let comment = format!("{indent}# {} - a: [{}", self.written.comment(), self.newline);
                self.written.push(&comment);
            }
            _ => {}
        }
    }

    fn map(&mut self, members: &[(String, Value)], indent: usize, mut at_start: bool, path: &mut Vec<String>) {
        at_start &= indent > 0;
        for (name, value) in members {
            if !at_start {
                self.lines_between();
                self.written.push(&" ".repeat(indent));
            }
            at_start = false;
            self.key(name);
            self.written.push(if self.choices.below(8) == 1 { " :" } else { ":" });
            path.push(name.clone());
            self.value(value, indent, true, path);
            path.pop();
        }
    }

    fn list(&mut self, items: &[Value], indent: usize, path: &mut Vec<String>) {
        for (index, item) in items.iter().enumerate() {
            self.lines_between();
            self.written.push(&" ".repeat(indent));
            self.written.push("-");
            path.push(index.to_string());
            match item {
                Value::Map(members) if !members.is_empty() && self.choices.below(2) == 1 => {
                    let spaces = 1 + self.choices.below(3);
                    self.written.push(&" ".repeat(spaces));
                    self.map(members, indent + 1 + spaces, true, path);
                }
                _ => self.value(item, indent, false, path),
            }
            path.pop();
        }
    }

    /// What follows a colon or a dash.
    fn value(&mut self, value: &Value, indent: usize, after_key: bool, path: &mut Vec<String>) {
        let step = 1 + self.choices.below(4);
        match value {
            Value::Map(members) if !members.is_empty() && self.choices.below(4) > 0 => {
                self.end_of_line();
                self.map(members, indent + step, false, path);
            }
            Value::List(items) if !items.is_empty() && self.choices.below(4) > 0 => {
                self.end_of_line();
                let step = if after_key && self.choices.below(2) == 1 { 0 } else { step };
                self.list(items, indent + step, path);
            }
            Value::Null if self.choices.below(2) == 1 => self.end_of_line(),
            _ => {
                self.written.push(&" ".repeat(step));
                let start = self.written.text.len();
                let is_block = self.plain(value, indent);
                self.is_behind_block = is_block;
                self.written.spans.push((path.clone(), start..self.written.text.len()));
                if is_block {
                    self.written.push(self.newline);
                } else {
                    self.end_of_line();
                }
            }
        }
    }

    /// A value on one line, or a block scalar. Gives whether it is the latter.
    fn plain(&mut self, value: &Value, indent: usize) -> bool {
        let Value::Text(text) = value else {
            let null = matches!(value, Value::Null) && self.choices.below(2) == 1;
            if null {
                self.written.push("~");
            } else {
                let mut json = String::new();
                crate::json::write(value, &mut json);
                self.written.push(&json);
            }
            return false;
        };
        let lines = text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte));
        let is_block = lines && !text.is_empty() && !text.starts_with([' ', '\n']) && !text.ends_with('\n');
        if is_block && self.newline == "\n" && self.choices.below(3) == 1 {
            self.written.push("|-");
            for line in text.split('\n') {
                let indent = if line.is_empty() { String::new() } else { " ".repeat(indent + 2) };
                self.written.push(&format!("\n{indent}{line}"));
            }
            return true;
        }
        self.string(text);
        false
    }

    fn key(&mut self, name: &str) {
        self.is_behind_block = false;
        self.string(name);
    }

    fn string(&mut self, text: &str) {
        let is_word = text.len() > 1
            && text.bytes().all(|byte| byte.is_ascii_lowercase())
            && !matches!(text, "true" | "false" | "null" | "yes" | "no" | "on" | "off");
        let is_ascii = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        match self.choices.below(3) {
            1 if is_word => self.written.push(text),
            2 if is_ascii => self.written.push(&format!("'{}'", text.replace('\'', "''"))),
            _ => {
                let mut json = String::new();
                crate::json::write_string(text, &mut json);
                self.written.push(&json);
            }
        }
    }
}

/// Writes a map as `NAME=value` lines.
pub(super) fn env(pairs: &[(String, String)], choices: &mut Choices<'_>) -> Written {
    let mut written = Written::default();
    for (name, value) in pairs {
        match choices.below(5) {
            1 => written.push("\n"),
            2 => {
                let comment = format!("# {} A=1\n", written.comment());
                written.push(&comment);
            }
            _ => {}
        }
        written.push(choices.pick(&["", "", "export "]));
        written.push(name);
        written.push("=");
        let start = written.text.len();
        let is_plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let form = choices.below(3);
        if is_plain && form == 0 {
            written.push(value);
        } else if form == 1 && !value.contains(['\'', '\\']) {
            written.push(&format!("'{value}'"));
        } else {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('\n', "\\n");
            written.push(&format!("\"{escaped}\""));
        }
        written.spans.push((vec![name.clone()], start..written.text.len()));
        if choices.below(4) == 1 {
            let comment = format!(" # {} ' \"", written.comment());
            written.push(&comment);
        }
        written.push("\n");
    }
    written
}
