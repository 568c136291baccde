//! Control data: paragraphs of `Field: value` lines, as in Release files and packages.
//!
//! Spec: Debian Policy §5.1; deb822(5).

/// One paragraph, fields in the order written. Continuation lines keep their leading space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paragraph {
    fields: Vec<(String, String)>,
}

/// A text that is no control data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is neither a field nor its continuation")]
pub struct ControlError {
    /// Counted from one.
    pub line: usize,
}

impl Paragraph {
    /// Parses the first paragraph of `text`, which must not have more.
    ///
    /// # Errors
    /// [`ControlError`] at the first line that does not belong to a field, a second paragraph included.
    pub fn parse(text: &str) -> Result<Self, ControlError> {
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut ended = false;
        for (at, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                ended = !fields.is_empty();
            } else if line.starts_with('#') {
            } else if ended {
                return Err(ControlError { line: at + 1 });
            } else if line.starts_with([' ', '\t']) {
                let (_, value) = fields.last_mut().ok_or(ControlError { line: at + 1 })?;
                value.push('\n');
                value.push_str(line.trim_end());
            } else {
                let (name, value) = line.split_once(':').ok_or(ControlError { line: at + 1 })?;
                if name.is_empty() || name.contains([' ', '\t']) {
                    return Err(ControlError { line: at + 1 });
                }
                fields.push((name.to_owned(), value.trim().to_owned()));
            }
        }
        Ok(Self { fields })
    }

    /// A field's value, by name in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Every field in the order written.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_and_continuations() {
        let paragraph =
            Paragraph::parse("Package: a\nDescription: one\n two\n .\n three\nsize: 4\n").expect("well-formed");
        assert_eq!(paragraph.get("package"), Some("a"));
        assert_eq!(paragraph.get("Description"), Some("one\n two\n .\n three"));
        assert_eq!(paragraph.get("Size"), Some("4"));
        assert_eq!(paragraph.get("None"), None);
    }

    #[test]
    fn refuses_what_is_no_field() {
        assert_eq!(Paragraph::parse(" first\n"), Err(ControlError { line: 1 }));
        assert_eq!(Paragraph::parse("A: 1\nnonsense\n"), Err(ControlError { line: 2 }));
        assert_eq!(Paragraph::parse("A: 1\n\nB: 2\n"), Err(ControlError { line: 3 }));
    }
}
