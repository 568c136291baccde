//! Graphviz.

use std::fmt::Write as _;

use super::{role, short};
use crate::definition::Definition;
use crate::op::Op;

pub(super) fn dump(definition: &Definition) -> String {
    let mut text = String::from("digraph {\n");
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "  {line}").expect("a string grows as needed");
    for vertex in definition.vertices() {
        let shape = match vertex.op() {
            Op::Source(_) => "ellipse",
            Op::Exec(_) => "box",
            Op::File(_) => "note",
            Op::Merge(_) => "invtriangle",
            Op::Diff(_) => "doublecircle",
        };
        let name = quoted(&vertex.name());
        line(format_args!("\"{}\" [label={name} shape={shape}];", short(&vertex.digest())));
    }
    let result = short(&definition.digest());
    line(format_args!("\"{result}\" [label=\"result\" shape=plaintext];"));
    for vertex in definition.vertices() {
        for (index, input) in vertex.inputs().iter().enumerate() {
            let role = quoted(&role(vertex, index));
            line(format_args!("\"{}\" -> \"{}\" [label={role}];", short(&input.vertex), short(&vertex.digest())));
        }
    }
    line(format_args!("\"{}\" -> \"{result}\" [label=\"\"];", short(&definition.head().vertex)));
    text.push_str("}\n");
    text
}

/// A DOT string: `"` escaped, backslashes kept from starting an escape, line ends as `\n`.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
