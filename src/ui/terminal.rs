//! What the two output streams can do: whether they are terminals, how large, and whether colour is wanted.

use std::ffi::OsString;
use std::io::IsTerminal;

/// The environment variables that change how output looks, read once at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `NO_COLOR` is set and not empty (<https://no-color.org>).
    pub no_color: bool,
    /// `CLICOLOR_FORCE` is set, not empty and not `0`.
    pub clicolor_force: bool,
    /// `TERM` is `dumb`: the terminal cannot move its cursor.
    pub dumb: bool,
    /// `CI` is set, not empty and not `false`: output goes to a log, even where it looks like a terminal.
    pub ci: bool,
}

impl Environment {
    /// Reads the variables of this process.
    #[must_use]
    pub fn from_process() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// Reads the variables through `lookup`.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str, off: &str| lookup(name).is_some_and(|value| !value.is_empty() && value != off);
        Self {
            no_color: set("NO_COLOR", ""),
            clicolor_force: set("CLICOLOR_FORCE", "0"),
            dumb: lookup("TERM").is_some_and(|value| value == "dumb"),
            ci: set("CI", "false"),
        }
    }
}

/// What `--color` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorChoice {
    /// Colour on terminals that can, unless the environment says otherwise.
    #[default]
    Auto,
    /// Colour always.
    Always,
    /// Colour never.
    Never,
}

impl ColorChoice {
    /// The choice named by a command line value.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        match value {
            "auto" => Some(Self::Auto),
            "always" => Some(Self::Always),
            "never" => Some(Self::Never),
            _ => None,
        }
    }

    fn allows(self, environment: Environment, is_terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if environment.no_color => false,
            Self::Auto => environment.clicolor_force || (is_terminal && !environment.dumb),
        }
    }
}

/// A terminal's size in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Cells in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

#[derive(Clone, Copy, Debug)]
enum Screen {
    /// A file or a pipe, or a terminal that cannot move its cursor.
    None,
    Stdout,
    Stderr,
    Fixed(Size),
}

/// What one output stream can do.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    screen: Screen,
    color: bool,
}

impl Terminal {
    /// Standard output of this process.
    #[must_use]
    pub fn stdout(choice: ColorChoice, environment: Environment) -> Self {
        Self::detect(Screen::Stdout, std::io::stdout().is_terminal(), choice, environment)
    }

    /// Standard error of this process.
    #[must_use]
    pub fn stderr(choice: ColorChoice, environment: Environment) -> Self {
        Self::detect(Screen::Stderr, std::io::stderr().is_terminal(), choice, environment)
    }

    /// A stream that is no terminal.
    #[must_use]
    pub const fn file() -> Self {
        Self { screen: Screen::None, color: false }
    }

    /// A terminal of this size that does not change.
    #[must_use]
    pub const fn fixed(size: Size, color: bool) -> Self {
        Self { screen: Screen::Fixed(size), color }
    }

    fn detect(screen: Screen, is_terminal: bool, choice: ColorChoice, environment: Environment) -> Self {
        let screen = if is_terminal && !environment.dumb { screen } else { Screen::None };
        Self { screen, color: choice.allows(environment, is_terminal) }
    }

    /// Whether the stream is a terminal whose cursor can be moved.
    #[must_use]
    pub const fn is_interactive(self) -> bool {
        !matches!(self.screen, Screen::None)
    }

    /// Whether to colour what is written to it.
    #[must_use]
    pub const fn color(self) -> bool {
        self.color
    }

    /// Its size at this moment; nothing where it is no terminal or does not say.
    #[must_use]
    pub fn size(self) -> Option<Size> {
        let winsize = match self.screen {
            Screen::None => return None,
            Screen::Fixed(size) => return Some(size),
            Screen::Stdout => rustix::termios::tcgetwinsize(std::io::stdout()),
            Screen::Stderr => rustix::termios::tcgetwinsize(std::io::stderr()),
        };
        let winsize = winsize.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0)?;
        Some(Size { columns: winsize.ws_col.into(), rows: winsize.ws_row.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(set: &[(&str, &str)]) -> Environment {
        Environment::from_lookup(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_environment_decides_colour_unless_the_command_line_does() {
        for (set, terminal, colored) in [
            (&[][..], true, true),
            (&[], false, false),
            (&[("NO_COLOR", "1")], true, false),
            (&[("NO_COLOR", "")], true, true),
            (&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], true, false),
            (&[("CLICOLOR_FORCE", "1")], false, true),
            (&[("CLICOLOR_FORCE", "0")], false, false),
            (&[("TERM", "dumb")], true, false),
            (&[("TERM", "xterm")], true, true),
        ] {
            let environment = environment(set);
            assert_eq!(ColorChoice::Auto.allows(environment, terminal), colored, "{set:?} on a terminal: {terminal}");
            assert!(ColorChoice::Always.allows(environment, terminal));
            assert!(!ColorChoice::Never.allows(environment, terminal));
        }
    }

    #[test]
    fn a_dumb_terminal_is_not_drawn_on() {
        let terminal =
            |set| Terminal::detect(Screen::Fixed(Size { columns: 80, rows: 24 }), true, ColorChoice::Auto, set);
        assert!(terminal(environment(&[])).is_interactive());
        assert!(!terminal(environment(&[("TERM", "dumb")])).is_interactive());
    }

    #[test]
    fn ci_is_recognised() {
        assert!(environment(&[("CI", "true")]).ci);
        assert!(!environment(&[("CI", "false")]).ci);
        assert!(!environment(&[("CI", "")]).ci);
    }
}
