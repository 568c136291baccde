//! Mermaid flow charts, which forges draw in Markdown.

use std::fmt::Write as _;

use super::{role, short};
use crate::definition::Definition;
use crate::op::Op;

pub(super) fn dump(definition: &Definition) -> String {
    let mut text = String::from("flowchart TD\n");
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "  {line}").expect("a string grows as needed");
    for vertex in definition.vertices() {
        let (open, close) = match vertex.op() {
            Op::Source(_) => ("([", "])"),
            Op::Exec(_) => ("[", "]"),
            Op::File(_) => ("[/", "/]"),
            Op::Merge(_) => ("{{", "}}"),
            Op::Diff(_) => ("{", "}"),
        };
        line(format_args!("v{}{open}\"{}\"{close}", short(&vertex.digest()), escaped(&vertex.name())));
    }
    for vertex in definition.vertices() {
        for (index, input) in vertex.inputs().iter().enumerate() {
            let (from, to) = (short(&input.vertex), short(&vertex.digest()));
            match role(vertex, index) {
                role if role.is_empty() => line(format_args!("v{from} --> v{to}")),
                role => line(format_args!("v{from} -->|\"{}\"| v{to}", escaped(&role))),
            }
        }
    }
    line(format_args!("v{} --> result(((result)))", short(&definition.head().vertex)));
    text
}

/// Text inside a quoted label: what Mermaid or HTML would take as markup becomes an entity.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | '<' | '>' | '&' | '`' => {
                write!(escaped, "#{};", u32::from(c)).expect("a string grows as needed");
            }
            '\n' => escaped.push_str("<br/>"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
