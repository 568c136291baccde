//! One pattern of a `.dockerignore` file.
//!
//! The language is that of moby/patternmatcher: Go's `filepath.Match` (`*`, `?`, `[…]`, `\`) and `**`. Where Docker
//! translates patterns to regular expressions some corners come out oddly; those people can meet are kept (a class
//! can match `/`, `**` in front of plain text matches in the middle of a name), those that are plainly broken
//! (wildcards or regular expression classes inside `[…]`, `\d`) follow `filepath.Match` instead.

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    negated: bool,
    form: Form,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// An exclamation mark and nothing else.
    #[error("`!` alone is not a pattern")]
    Empty,
    /// A class that does not end or is not well formed, or a backslash at the end.
    #[error("`{0}` is not a pattern: a `[` without its `]`, an empty or open range, or a `\\` at the end")]
    Syntax(String),
}

#[derive(Clone, Debug)]
enum Form {
    /// Nothing special: the path itself.
    Exact,
    /// Plain text, then `**`: any path that starts with the text.
    Prefix,
    /// `**`, then plain text: any path that ends with the text, wherever in a name that is.
    Suffix,
    /// Everything else.
    Glob(Glob),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character that is not `/`.
    One,
    /// `*`: any number of characters that are not `/`.
    Many,
    /// `[…]`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `**` at the end: everything, but no line ends.
    Rest,
    /// `**/`: nothing, or anything that ends in `/`. Always followed by [`Token::InDirectories`].
    Directories,
    /// The state of being within what [`Token::Directories`] matches.
    InDirectories,
}

/// Tokens, run as a nondeterministic automaton: time is tokens times characters, whatever the pattern.
#[derive(Clone, Debug)]
struct Glob {
    tokens: Vec<Token>,
    /// Plain text every match starts with.
    start: String,
    /// Plain text every match ends with.
    end: String,
}

impl Pattern {
    /// Compiles a line of a `.dockerignore`, or one pattern of a local source. `None` for a blank one.
    pub(crate) fn parse(line: &str) -> Result<Option<Self>, PatternError> {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            return Ok(None);
        }
        let clean = super::path::clean(trimmed);
        let (text, negated) = match clean.strip_prefix('!') {
            Some("") => return Err(PatternError::Empty),
            Some(rest) => (rest.to_owned(), true),
            None => (clean, false),
        };
        let form = compile(&text)?;
        Ok(Some(Self { text, negated, form }))
    }

    /// Whether a match takes files in again rather than leaving them out.
    pub(crate) fn is_negated(&self) -> bool {
        self.negated
    }

    /// The cleaned pattern without its `!`.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole of a relative, clean path matches. Parents are not looked at.
    pub(crate) fn matches(&self, path: &str) -> bool {
        match &self.form {
            Form::Exact => path == self.text,
            Form::Prefix => path.starts_with(&self.text[..self.text.len() - 2]),
            Form::Suffix => {
                let suffix = &self.text[2..];
                path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path)
            }
            Form::Glob(glob) => glob.matches(path),
        }
    }
}

/// What a pattern looked like so far. Plain text can be compared without an automaton, with `**` in front or behind too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Exact,
    Prefix,
    Suffix,
    Glob,
}

fn compile(text: &str) -> Result<Form, PatternError> {
    let broken = || PatternError::Syntax(text.to_owned());
    let mut shape = Shape::Exact;
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let is_first = tokens.is_empty();
        let token = match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                let is_last = rest.peek().is_none();
                shape = match shape {
                    _ if is_first => Shape::Suffix,
                    Shape::Exact if is_last => Shape::Prefix,
                    Shape::Exact | Shape::Prefix | Shape::Suffix | Shape::Glob => Shape::Glob,
                };
                if is_last {
                    Token::Rest
                } else {
                    tokens.push(Token::Directories);
                    Token::InDirectories
                }
            }
            '*' | '?' | '[' | '\\' => {
                shape = Shape::Glob;
                match c {
                    '*' => Token::Many,
                    '?' => Token::One,
                    '[' => class(&mut rest).ok_or_else(broken)?,
                    _ => Token::Literal(rest.next().ok_or_else(broken)?),
                }
            }
            c => Token::Literal(c),
        };
        tokens.push(token);
    }
    Ok(match shape {
        Shape::Exact => Form::Exact,
        Shape::Prefix => Form::Prefix,
        Shape::Suffix => Form::Suffix,
        Shape::Glob => Form::Glob(Glob::new(tokens)),
    })
}

/// The rest of a class, behind its `[`: `^` or nothing, then characters and ranges, then `]`.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    fn character(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
        match rest.next()? {
            '-' | ']' => None,
            '\\' => rest.next(),
            c => Some(c),
        }
    }
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let first = character(rest)?;
        let last = if rest.next_if_eq(&'-').is_some() { character(rest)? } else { first };
        ranges.push((first, last));
    }
}

impl Glob {
    fn new(tokens: Vec<Token>) -> Self {
        let plain = |token: &Token| match token {
            Token::Literal(c) => Some(*c),
            Token::One
            | Token::Many
            | Token::Class { .. }
            | Token::Rest
            | Token::Directories
            | Token::InDirectories => None,
        };
        let start = tokens.iter().map_while(plain).collect();
        let mut end: Vec<char> = tokens.iter().rev().map_while(plain).collect();
        end.reverse();
        Self { start, end: end.into_iter().collect(), tokens }
    }

    fn matches(&self, path: &str) -> bool {
        if !path.starts_with(&self.start) || !path.ends_with(&self.end) {
            return false;
        }
        // `states[i]`: everything before token i has matched what was read so far.
        let mut states = vec![false; self.tokens.len() + 1];
        let mut next = states.clone();
        self.enter(&mut states, 0);
        for c in path.chars() {
            next.fill(false);
            let mut is_dead = true;
            for (state, token) in self.tokens.iter().enumerate().filter(|(state, _)| states[*state]) {
                let (stays, goes_on) = match token {
                    Token::Literal(literal) => (false, c == *literal),
                    Token::One => (false, c != '/'),
                    Token::Many => (c != '/', false),
                    Token::Class { negated, ranges } => {
                        (false, ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated)
                    }
                    Token::Rest => (c != '\n', false),
                    // Entered together with the token behind it, which does the reading.
                    Token::Directories => (false, false),
                    Token::InDirectories => (c != '\n', c == '/'),
                };
                if stays {
                    self.enter(&mut next, state);
                }
                if goes_on {
                    self.enter(&mut next, state + 1);
                }
                is_dead &= !stays && !goes_on;
            }
            if is_dead {
                return false;
            }
            std::mem::swap(&mut states, &mut next);
        }
        states[self.tokens.len()]
    }

    /// Enters a state and those reached from it without reading.
    fn enter(&self, states: &mut [bool], state: usize) {
        if std::mem::replace(&mut states[state], true) {
            return;
        }
        match self.tokens.get(state) {
            Some(Token::Many | Token::Rest) => self.enter(states, state + 1),
            Some(Token::Directories) => {
                self.enter(states, state + 1);
                self.enter(states, state + 2);
            }
            Some(Token::Literal(_) | Token::One | Token::Class { .. } | Token::InDirectories) | None => {}
        }
    }
}
