//! What can be wrong with a release file.

use diag::{Diagnostic, Reported, codes};

use super::Signer;

/// A release file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A keyring cannot be used.
    #[error("`{name}` holds no OpenPGP key that may sign")]
    Keyring {
        /// The file's name.
        name: String,
        /// What reading it gave.
        source: Option<Box<pgp::errors::Error>>,
    },
    /// There is no signature, or it cannot be read.
    #[error("the release file carries no readable OpenPGP signature")]
    NotSigned {
        /// What reading it gave.
        source: Option<Box<pgp::errors::Error>>,
    },
    /// A trusted key's signature does not match the text, or is too weak to be believed.
    #[error("the signature by {} (`{}`) is not good", .signer.fingerprint, .signer.owner)]
    BadSignature {
        /// Whose signature it claims to be.
        signer: Signer,
        /// What checking it gave.
        source: Option<Box<pgp::errors::Error>>,
    },
    /// No signature is by a trusted key.
    #[error("the release file is signed only by keys that are not trusted: {}", .issuers.join(", "))]
    UnknownKey {
        /// Fingerprints (or key IDs) of the keys that signed.
        issuers: Vec<String>,
    },
    /// Every trusted signature is by a key that has expired.
    #[error("the key {} (`{}`) that signed the release file has expired", .signer.fingerprint, .signer.owner)]
    ExpiredKey {
        /// The key.
        signer: Signer,
        /// Since when, seconds since 1970.
        until: i64,
    },
    /// The release file is out of date.
    #[error("the release file of `{codename}` was valid until {} before now", days(.now - .until))]
    Expired {
        /// The suite.
        codename: String,
        /// Until when it may be used, seconds since 1970.
        until: i64,
        /// The time it was held against, seconds since 1970.
        now: i64,
    },
    /// The text is not a release file.
    #[error("field `{field}` of the release file is not understood: {reason}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such index.
    #[error("`{codename}` has no packages of component `{component}` for `{architecture}`")]
    NotListed {
        /// The suite.
        codename: String,
        /// The component asked for.
        component: String,
        /// The architecture asked for.
        architecture: String,
        /// Components there are.
        components: Vec<String>,
        /// Architectures there are.
        architectures: Vec<String>,
    },
}

impl ReleaseError {
    pub(super) fn malformed(field: &'static str, reason: &str) -> Self {
        Self::Malformed { field, reason: reason.to_owned() }
    }
}

fn days(seconds: i64) -> String {
    match seconds / 86_400 {
        0 => format!("{} minutes", seconds / 60),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    }
}

impl Reported for ReleaseError {
    fn diagnostic(&self) -> Diagnostic {
        let with = |code, source: &Option<Box<pgp::errors::Error>>| {
            let diagnostic = Diagnostic::new(code, self.to_string());
            match source {
                Some(source) => diagnostic.caused_by(source.as_ref()),
                None => diagnostic,
            }
        };
        match self {
            Self::Keyring { source, .. } => with(codes::debian::KEYRING, source)
                .help("name files of exported public keys in `keys`; Debian's own are in the package debian-archive-keyring"),
            Self::NotSigned { source } => with(codes::debian::SIGNATURE, source)
                .help("make sure that `archive` and `suites` name a Debian archive, and that no proxy answers in its place"),
            Self::BadSignature { source, .. } => with(codes::debian::SIGNATURE, source)
                .help("the file was damaged or changed on its way: try again, or use another mirror"),
            Self::UnknownKey { .. } => with(codes::debian::UNKNOWN_KEY, &None)
                .help("add the archive's key file to `base/keys/` and name it in the base's `keys`, if you trust that archive"),
            Self::ExpiredKey { .. } => with(codes::debian::EXPIRED, &None)
                .help("take the archive's newer keys from the package debian-archive-keyring"),
            Self::Expired { .. } => with(codes::debian::EXPIRED, &None)
                .help("the mirror is no longer updated, or this machine's clock is wrong; another mirror may be current"),
            Self::Malformed { .. } => with(codes::debian::RELEASE, &None),
            Self::NotListed { component, architecture, components, architectures, .. } => {
                let diagnostic = with(codes::debian::NOT_LISTED, &None);
                if components.contains(component) && !architectures.contains(architecture) {
                    diagnostic.help(format!("its architectures are {}", architectures.join(", ")))
                } else {
                    diagnostic.help(format!("its components are {}", components.join(", ")))
                }
            }
        }
    }
}
