//! `.dockerignore` files. Spec: Docker reference, “.dockerignore file”.

/// The patterns of a `.dockerignore` file, as the exclude patterns of a local source.
///
/// Lines that start with `#` are comments. Blanks around a pattern, a leading slash and a byte order mark go; paths
/// are brought into their shortest form.
#[must_use]
pub fn parse_ignore_file(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| match line.strip_prefix('!') {
            Some(pattern) => format!("!{}", from_root(pattern.trim())),
            None => from_root(line),
        })
        .collect()
}

fn from_root(pattern: &str) -> String {
    if pattern.is_empty() {
        return String::new();
    }
    let clean = super::path::clean(pattern);
    match clean.strip_prefix('/') {
        Some(relative) if !relative.is_empty() => relative.to_owned(),
        Some(_) | None => clean,
    }
}
