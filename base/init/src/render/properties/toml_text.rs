//! TOML documents, laid out by chance.

use super::model::{Choices, Written};
use super::*;

/// Writes a map as TOML: tables with headers, inline, or by dotted keys.
pub(super) fn toml(value: &Value, choices: &mut Choices<'_>) -> Written {
    let Value::Map(members) = value else { panic!("documents are maps") };
    let mut written = Written::default();
    Toml { choices, written: &mut written }.table(members, &mut Vec::new(), &[]);
    written
}

struct Toml<'a, 'c> {
    choices: &'a mut Choices<'c>,
    written: &'a mut Written,
}

impl Toml<'_, '_> {
    /// The entries of a table, and then the tables below it. `path` counts the tables of arrays, `header` does not.
    fn table(&mut self, members: &[(String, Value)], path: &mut Vec<String>, header: &[String]) {
        let mut below = Vec::new();
        for (name, value) in members {
            let is_tables =
                |items: &[Value]| !items.is_empty() && items.iter().all(|item| matches!(item, Value::Map(_)));
            match value {
                Value::Map(_) if self.choices.below(3) > 0 => below.push((name, value)),
                Value::List(items) if is_tables(items) && self.choices.below(3) > 0 => below.push((name, value)),
                _ => {
                    self.lines_between();
                    let indent = self.choices.pick(&["", "", "  ", "\t"]);
                    self.written.push(indent);
                    self.entry(&[name.as_str()], value, path);
                }
            }
        }
        for (name, value) in below {
            let header: Vec<String> = header.iter().cloned().chain([name.clone()]).collect();
            path.push(name.clone());
            match value {
                Value::Map(members) => {
                    self.header(&header, ["[", "]"]);
                    self.table(members, path, &header);
                }
                Value::List(items) => {
                    for (index, item) in items.iter().enumerate() {
                        let Value::Map(members) = item else { panic!("tables only") };
                        self.header(&header, ["[[", "]]"]);
                        path.push(index.to_string());
                        self.table(members, path, &header);
                        path.pop();
                    }
                }
                _ => panic!("containers only"),
            }
            path.pop();
        }
    }

    fn header(&mut self, names: &[String], [open, close]: [&str; 2]) {
        self.lines_between();
        self.written.push(open);
        for (index, name) in names.iter().enumerate() {
            self.written.push(if index > 0 { "." } else { "" });
            self.key(name);
        }
        self.written.push(close);
        self.end_of_line();
    }

    /// One line of a table, or several with dotted keys.
    fn entry(&mut self, names: &[&str], value: &Value, path: &mut Vec<String>) {
        let name = (*names.last().unwrap()).to_owned();
        path.push(name);
        match value {
            Value::Map(members) if !members.is_empty() && self.choices.below(3) == 1 => {
                for (name, value) in members {
                    let names: Vec<&str> = names.iter().copied().chain([name.as_str()]).collect();
                    self.entry(&names, value, path);
                }
            }
            _ => {
                for (index, name) in names.iter().enumerate() {
                    self.written.push(if index > 0 { self.choices.pick(&[".", " . "]) } else { "" });
                    self.key(name);
                }
                self.written.push(self.choices.pick(&[" = ", "=", "\t=  "]));
                self.value(value, path);
                self.end_of_line();
            }
        }
        path.pop();
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
                    let comma = index + 1 < items.len() || self.choices.below(3) == 1;
                    self.written.push(if comma { "," } else { "" });
                }
                self.space();
                self.written.push("]");
            }
            Value::Map(members) => {
                self.written.push("{");
                for (index, (name, value)) in members.iter().enumerate() {
                    self.written.push(if index > 0 { ", " } else { " " });
                    self.key(name);
                    self.written.push(" = ");
                    path.push(name.clone());
                    self.value(value, path);
                    path.pop();
                }
                self.written.push(" }");
            }
            Value::Text(text) => self.string(text, true),
            Value::Number(text) => self.written.push(text),
            Value::Boolean(_) => crate::json::write(value, &mut self.written.text),
            Value::Null => panic!("TOML has no null"),
        }
        self.written.spans.push((path.clone(), start..self.written.text.len()));
    }

    /// White space in a list, where lines and comments may be.
    fn space(&mut self) {
        match self.choices.below(6) {
            1 => self.written.push(" "),
            2 => self.written.push("\n  "),
            3 => {
                let comment = format!(" # {} ] , \" \n", self.written.comment());
                self.written.push(&comment);
            }
            _ => {}
        }
    }

    fn key(&mut self, name: &str) {
        let is_bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if is_bare && !name.is_empty() && self.choices.below(2) == 1 {
            self.written.push(name);
        } else {
            self.string(name, false);
        }
    }

    fn string(&mut self, text: &str, may_be_long: bool) {
        let is_ascii = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) || (byte == b'\n' && may_be_long));
        let long = may_be_long && is_ascii && !text.contains(['"', '\\']);
        match self.choices.below(4) {
            1 if is_ascii && !text.contains(['\'', '\n']) => self.written.push(&format!("'{text}'")),
            2 if long => self.written.push(&format!("\"\"\"\n{text}\"\"\"")),
            3 if may_be_long && is_ascii && !text.contains('\'') => self.written.push(&format!("'''\n{text}'''")),
            _ => crate::json::write_string(text, &mut self.written.text),
        }
    }

    fn end_of_line(&mut self) {
        if self.choices.below(4) == 1 {
            let comment = format!(" # {} = [ \" '", self.written.comment());
            self.written.push(&comment);
        }
        self.written.push("\n");
    }

    fn lines_between(&mut self) {
        match self.choices.below(5) {
            1 => self.written.push("\n"),
            2 => {
                let comment = format!("# {} [x] = 1\n", self.written.comment());
                self.written.push(&comment);
            }
            _ => {}
        }
    }
}
