//! What can be wrong with an address.

use diag::{Diagnostic, Reported, codes};

/// A text that is no builder's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a builder's address: {problem}")]
pub struct AddressError {
    /// The text, without passwords.
    pub text: String,
    /// What is wrong with it.
    pub problem: AddressProblem,
}

/// What is wrong with an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressProblem {
    /// There is no `://` in it.
    #[error("it has no scheme")]
    NoScheme,
    /// The scheme is not one of those known.
    #[error("`{scheme}` is not a scheme of builders")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// It is no URL at all.
    #[error("it is not a URL: {0}")]
    Url(url::ParseError),
    /// A part that has to be there is missing.
    #[error("it names no {0}")]
    Missing(&'static str),
    /// A socket's path does not begin at the root.
    #[error("the socket's path is not absolute")]
    RelativePath,
    /// A part that means nothing here.
    #[error("a {0} means nothing here")]
    Surplus(&'static str),
    /// A password, which would be seen by everybody who lists processes.
    #[error("passwords are not taken")]
    Password,
    /// A query parameter that means nothing here.
    #[error("the parameter `{0}` means nothing here")]
    Parameter(String),
    /// A name that Kubernetes does not allow.
    #[error("`{0}` is not a name Kubernetes allows")]
    KubernetesName(String),
    /// A name that would be taken for an option of the program it is handed to.
    #[error("`{0}` begins with a hyphen")]
    Hyphen(String),
    /// An attribute behind the address that is not known.
    #[error("the attribute `{0}` is not known")]
    Attribute(String),
    /// An attribute that is given twice.
    #[error("the attribute `{0}` is given twice")]
    Twice(&'static str),
    /// An attribute with a value it cannot have.
    #[error("the attribute `{attribute}` is not {expected}")]
    Value {
        /// The attribute.
        attribute: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A platform that is none.
    #[error(transparent)]
    Platform(#[from] oci::PlatformError),
    /// One half of a certificate and its key.
    #[error("`{given}` is of no use without `{missing}`")]
    Half {
        /// What is given.
        given: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// Certificates for a connection without TLS.
    #[error("certificates mean something with `tcp://` only")]
    Certificates,
}

impl Reported for AddressError {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::new(codes::engine::ADDRESS, self.to_string());
        match &self.problem {
            AddressProblem::Scheme { scheme } => {
                let diagnostic = match diag::did_you_mean(scheme, super::parse::SCHEMES) {
                    Some(known) => diagnostic.help(format!("did you mean `{known}://`?")),
                    None => diagnostic,
                };
                diagnostic.help(format!("known are {}", schemes()))
            }
            AddressProblem::NoScheme => diagnostic
                .help("an address begins with its scheme: `unix:///run/buildkit/buildkitd.sock`, `tcp://host:1234`"),
            AddressProblem::Missing("port") => diagnostic.help("buildkitd usually listens on 1234: `tcp://host:1234`"),
            AddressProblem::RelativePath => {
                diagnostic.help("write it with three slashes: `unix:///run/buildkit/buildkitd.sock`")
            }
            AddressProblem::Password => diagnostic.help("let ssh use a key or an agent"),
            AddressProblem::Attribute(attribute) => {
                let diagnostic = match diag::did_you_mean(attribute, super::argument::ATTRIBUTES) {
                    Some(known) => diagnostic.help(format!("did you mean `{known}`?")),
                    None => diagnostic,
                };
                diagnostic.help(format!("known are {}", super::argument::ATTRIBUTES.join(", ")))
            }
            _ => diagnostic,
        }
    }
}

fn schemes() -> String {
    super::parse::SCHEMES.map(|scheme| format!("`{scheme}://`")).join(", ")
}
