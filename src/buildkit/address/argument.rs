//! The argument of `--builder`: an address or a name, with attributes behind it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oci::Platform;

use super::{Address, AddressError, AddressProblem};
use crate::transport::{Identity, Tls};

/// What a user asks for by `--builder ADDRESS|NAME[,ATTRIBUTE=VALUE…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuilderArgument {
    /// Which builder.
    pub place: BuilderPlace,
    /// The platforms it shall build; empty leaves it to what it says of itself.
    pub platforms: Vec<Platform>,
}

/// Which builder a user means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuilderPlace {
    /// The one at this address.
    Address(Address),
    /// The one that buildx knows by this name, or the Docker behind this context.
    Name(String),
}

impl fmt::Display for BuilderPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Every attribute.
pub(super) const ATTRIBUTES: [&str; 5] = ["platform", "cacert", "cert", "key", "servername"];

/// What the attributes said so far.
#[derive(Default)]
struct Attributes {
    platforms: Vec<Platform>,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
}

impl FromStr for BuilderArgument {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (place, attributes) = text.split_once(',').map_or((text, None), |(place, rest)| (place, Some(rest)));
        let fail = |problem| AddressError { text: super::parse::without_password(text), problem };
        let attributes = Attributes::parse(attributes).map_err(fail)?;
        if !place.contains("://") && !place.contains(['/', ':']) {
            if place.is_empty() {
                return Err(fail(AddressProblem::Missing("builder")));
            }
            let platforms = attributes.platforms.clone();
            return match attributes.tls().map_err(fail)? {
                Some(_) => Err(fail(AddressProblem::Certificates)),
                None => Ok(Self { place: BuilderPlace::Name(place.to_owned()), platforms }),
            };
        }
        let mut address: Address = place.parse()?;
        let platforms = attributes.platforms.clone();
        if let Some(tls) = attributes.tls().map_err(fail)? {
            match &mut address {
                Address::Tcp(tcp) => tcp.tls = Some(tls),
                _ => return Err(fail(AddressProblem::Certificates)),
            }
        }
        Ok(Self { place: BuilderPlace::Address(address), platforms })
    }
}

impl Attributes {
    fn parse(text: Option<&str>) -> Result<Self, AddressProblem> {
        let mut attributes = Self::default();
        let mut last = "";
        for part in text.into_iter().flat_map(|text| text.split(',')) {
            // Platforms are a list themselves: `platform=linux/amd64,linux/arm64`.
            let (key, value) = match part.split_once('=') {
                Some(pair) => pair,
                None if last == "platform" => (last, part),
                None => return Err(AddressProblem::Attribute(part.to_owned())),
            };
            attributes.set(key, value)?;
            last = key;
        }
        Ok(attributes)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), AddressProblem> {
        match key {
            "platform" => {
                let platform = value.parse()?;
                if !self.platforms.contains(&platform) {
                    self.platforms.push(platform);
                }
                Ok(())
            }
            "cacert" => file(&mut self.authority, "cacert", value),
            "cert" => file(&mut self.certificate, "cert", value),
            "key" => file(&mut self.key, "key", value),
            "servername" if value.is_empty() => {
                Err(AddressProblem::Value { attribute: "servername", expected: "a name" })
            }
            "servername" => once(&mut self.server_name, "servername", value.to_owned()),
            _ => Err(AddressProblem::Attribute(key.to_owned())),
        }
    }

    /// What they say of TLS; `None` if nothing.
    fn tls(self) -> Result<Option<Tls>, AddressProblem> {
        tls(self.authority, self.certificate, self.key, self.server_name)
    }
}

/// TLS by its four options, as buildctl and buildx have them; `None` if none is given.
pub(crate) fn tls(
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
) -> Result<Option<Tls>, AddressProblem> {
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        (Some(_), None) => return Err(AddressProblem::Half { given: "cert", missing: "key" }),
        (None, Some(_)) => return Err(AddressProblem::Half { given: "key", missing: "cert" }),
    };
    let is_given = authority.is_some() || identity.is_some() || server_name.is_some();
    Ok(is_given.then_some(Tls { authority, identity, server_name }))
}

fn file(place: &mut Option<PathBuf>, attribute: &'static str, value: &str) -> Result<(), AddressProblem> {
    match value {
        "" => Err(AddressProblem::Value { attribute, expected: "a file" }),
        value => once(place, attribute, PathBuf::from(value)),
    }
}

fn once<T>(place: &mut Option<T>, attribute: &'static str, value: T) -> Result<(), AddressProblem> {
    match place.replace(value) {
        Some(_) => Err(AddressProblem::Twice(attribute)),
        None => Ok(()),
    }
}
