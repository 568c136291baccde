//! One line per vertex.

use std::fmt::Write as _;

use super::{kind, role, short, summary, treeless_mounts};
use crate::definition::Definition;
use crate::exec::NetworkMode;
use crate::op::Op;
use crate::vertex::{CUSTOM_NAME, Edge, Vertex};

pub(super) fn dump(definition: &Definition) -> String {
    let mut text = String::new();
    for vertex in definition.vertices() {
        text.push_str(&line(vertex));
        text.push('\n');
    }
    writeln!(text, "{} result {}", short(&definition.digest()), edge(&definition.head()))
        .expect("a string grows as needed");
    text
}

fn line(vertex: &Vertex) -> String {
    let mut words = vec![short(&vertex.digest()), format!("{:<6}", kind(vertex.op()))];
    if let Some(name) = vertex.metadata().description.get(CUSTOM_NAME) {
        words.push(format!("{name:?}"));
    }
    match vertex.op() {
        Op::Exec(exec) => {
            words.extend(exec.args.iter().map(|arg| word(arg)));
            words.push(format!("cwd={}", word(&exec.cwd)));
            if let Some(user) = &exec.user {
                words.push(format!("user={}", word(user)));
            }
            match exec.network {
                NetworkMode::Sandbox => {}
                NetworkMode::Host => words.push("network=host".to_owned()),
                NetworkMode::None => words.push("network=none".to_owned()),
            }
            words.extend(treeless_mounts(exec).map(|(what, dest)| format!("{}={}", word(dest), word(&what))));
        }
        op @ (Op::Source(_) | Op::File(_)) => words.push(summary(op).escape_debug().to_string()),
        Op::Merge(_) | Op::Diff(_) => {}
    }
    if let Some(platform) = vertex.platform() {
        words.push(format!("[{platform}]"));
    }
    if !vertex.inputs().is_empty() {
        words.push("<-".to_owned());
        words.extend(vertex.inputs().iter().enumerate().map(|(index, input)| match role(vertex, index) {
            role if role.is_empty() => edge(input),
            role => format!("{}({})", edge(input), role.escape_debug()),
        }));
    }
    words.join(" ").trim_end().to_owned()
}

fn edge(edge: &Edge) -> String {
    match edge.output.0 {
        0 => short(&edge.vertex),
        output => format!("{}:{output}", short(&edge.vertex)),
    }
}

/// The text itself if it can stand on its own, quoted and escaped otherwise.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%^".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("{text:?}") }
}
