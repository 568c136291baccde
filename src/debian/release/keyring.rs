//! OpenPGP keys that may sign an archive's release files.
//!
//! Spec: RFC 9580 §5.2 (signatures), §7 (cleartext framework), §10.1 (transferable public keys).

use pgp::composed::{CleartextSignedMessage, Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, PublicSubkey, Signature, SignatureType};
use pgp::types::{KeyDetails, SignedUser, Tag};

use super::ReleaseError;

/// Keys that may sign: primary keys and signing subkeys whose self-signatures verify and that are not revoked.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: Vec<SigningKey>,
}

/// One key that may sign.
#[derive(Clone, Debug)]
struct SigningKey {
    owner: String,
    material: Material,
    /// Seconds since 1970.
    expires: Option<i64>,
}

#[derive(Clone, Debug)]
enum Material {
    Primary(PublicKey),
    Subkey(PublicSubkey),
}

/// A key that signed a release file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signer {
    /// Fingerprint of the key or subkey, upper-case hexadecimal.
    pub fingerprint: String,
    /// The key's first user ID.
    pub owner: String,
}

impl Keyring {
    /// Adds the keys of one file, ASCII-armoured or binary. `name` is what errors call the file.
    ///
    /// # Errors
    /// [`ReleaseError::Keyring`] where the file cannot be read or has no key that may sign.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), ReleaseError> {
        let unreadable = |source| ReleaseError::Keyring { name: name.to_owned(), source: Some(Box::new(source)) };
        let before = self.keys.len();
        if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            let (certificates, _) = SignedPublicKey::from_armor_many(bytes).map_err(unreadable)?;
            for certificate in certificates {
                self.add_certificate(&certificate.map_err(unreadable)?);
            }
        } else {
            for certificate in SignedPublicKey::from_bytes_many(bytes).map_err(unreadable)? {
                self.add_certificate(&certificate.map_err(unreadable)?);
            }
        }
        if self.keys.len() == before {
            return Err(ReleaseError::Keyring { name: name.to_owned(), source: None });
        }
        Ok(())
    }

    /// Fingerprints of all keys, upper-case hexadecimal, sorted: what a cache key over the keyring is made of.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        let mut all: Vec<String> = self.keys.iter().map(SigningKey::fingerprint).collect();
        all.sort();
        all.dedup();
        all
    }

    fn add_certificate(&mut self, certificate: &SignedPublicKey) {
        let primary = &certificate.primary_key;
        let revoked = |signature: &Signature| signature.verify_key(primary).is_ok();
        if certificate.details.revocation_signatures.iter().any(revoked) {
            return;
        }
        let Some((user, statement)) = newest_self_signature(certificate) else { return };
        let owner = user.id.as_str().unwrap_or("unnamed").to_owned();
        let created = i64::from(primary.created_at().as_secs());
        let primary_expires = expiry(created, statement);
        if statement.key_flags().sign() {
            let material = Material::Primary(primary.clone());
            self.keys.push(SigningKey { owner: owner.clone(), material, expires: primary_expires });
        }
        for subkey in &certificate.public_subkeys {
            let Some(binding) = newest_binding(primary, subkey) else { continue };
            let own = expiry(i64::from(subkey.key.created_at().as_secs()), binding);
            let expires = [own, primary_expires].into_iter().flatten().min();
            self.keys.push(SigningKey {
                owner: owner.clone(),
                material: Material::Subkey(subkey.key.clone()),
                expires,
            });
        }
    }

    /// Checks a clearsigned file and gives the text that was signed, with Unix line ends, and who signed it.
    pub(super) fn verify_clearsigned(
        &self,
        bytes: &[u8],
        now: Option<i64>,
    ) -> Result<(String, Vec<Signer>), ReleaseError> {
        let (message, _) = CleartextSignedMessage::from_armor(bytes)
            .map_err(|source| ReleaseError::NotSigned { source: Some(Box::new(source)) })?;
        let text = message.signed_text();
        let signers = self.verify(message.signatures(), text.as_bytes(), now)?;
        Ok((text.replace("\r\n", "\n"), signers))
    }

    /// Checks a text against a detached signature file, armoured or binary.
    pub(super) fn verify_detached(
        &self,
        text: &[u8],
        signature: &[u8],
        now: Option<i64>,
    ) -> Result<Vec<Signer>, ReleaseError> {
        let unsigned = |source| ReleaseError::NotSigned { source: Some(Box::new(source)) };
        let collect = |found: &mut dyn Iterator<Item = pgp::errors::Result<DetachedSignature>>| {
            found.map(|one| one.map(|one| one.signature)).collect::<Result<Vec<_>, _>>()
        };
        let signatures = if signature.trim_ascii_start().starts_with(b"-----BEGIN") {
            let (mut found, _) = DetachedSignature::from_armor_many(signature).map_err(unsigned)?;
            collect(&mut found)
        } else {
            collect(&mut DetachedSignature::from_bytes_many(signature).map_err(unsigned)?)
        };
        self.verify(&signatures.map_err(unsigned)?, text, now)
    }

    /// At least one signature must be by a key of this ring, and every one that is must be good.
    fn verify(&self, signatures: &[Signature], text: &[u8], now: Option<i64>) -> Result<Vec<Signer>, ReleaseError> {
        if signatures.is_empty() {
            return Err(ReleaseError::NotSigned { source: None });
        }
        let mut signers = Vec::new();
        let mut expired = None;
        for signature in signatures {
            let Some(key) = self.keys.iter().find(|key| key.made(signature)) else { continue };
            let strong = matches!(
                signature.hash_alg(),
                Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512)
            );
            let fits = matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary));
            if !strong || !fits {
                return Err(ReleaseError::BadSignature { signer: key.signer(), source: None });
            }
            let checked = match &key.material {
                Material::Primary(primary) => signature.verify(primary, text),
                Material::Subkey(subkey) => signature.verify(subkey, text),
            };
            checked.map_err(|source| ReleaseError::BadSignature {
                signer: key.signer(),
                source: Some(Box::new(source)),
            })?;
            let signature_expires = signature
                .created()
                .zip(signature.signature_expiration_time())
                .map(|(at, after)| i64::from(at.as_secs()) + i64::from(after.as_secs()));
            let until = [key.expires, signature_expires].into_iter().flatten().min();
            match (until, now) {
                (Some(until), Some(now)) if until <= now => expired = Some((key.signer(), until)),
                _ => signers.push(key.signer()),
            }
        }
        signers.sort();
        signers.dedup();
        match (signers.is_empty(), expired) {
            (false, _) => Ok(signers),
            (true, Some((signer, until))) => Err(ReleaseError::ExpiredKey { signer, until }),
            (true, None) => Err(ReleaseError::UnknownKey { issuers: issuers(signatures) }),
        }
    }
}

impl SigningKey {
    fn fingerprint(&self) -> String {
        match &self.material {
            Material::Primary(key) => hex::encode_upper(key.fingerprint().as_bytes()),
            Material::Subkey(key) => hex::encode_upper(key.fingerprint().as_bytes()),
        }
    }

    fn signer(&self) -> Signer {
        Signer { fingerprint: self.fingerprint(), owner: self.owner.clone() }
    }

    /// Whether `signature` says this key made it.
    fn made(&self, signature: &Signature) -> bool {
        let (fingerprint, key_id) = match &self.material {
            Material::Primary(key) => (key.fingerprint(), key.legacy_key_id()),
            Material::Subkey(key) => (key.fingerprint(), key.legacy_key_id()),
        };
        signature.issuer_fingerprint().iter().any(|issuer| **issuer == fingerprint)
            || signature.issuer_key_id().iter().any(|issuer| **issuer == key_id)
    }
}

/// The newest certification of a user ID by the key itself.
fn newest_self_signature(certificate: &SignedPublicKey) -> Option<(&SignedUser, &Signature)> {
    let primary = &certificate.primary_key;
    let certified = certificate.details.users.iter().flat_map(|user| {
        user.signatures
            .iter()
            .filter(|signature| signature.is_certification())
            .filter(|signature| signature.verify_certification(primary, Tag::UserId, &user.id).is_ok())
            .map(move |signature| (user, signature))
    });
    certified.max_by_key(|(_, signature)| signature.created())
}

/// The newest binding of a signing subkey, if it may sign and no revocation verifies.
fn newest_binding<'a>(primary: &PublicKey, subkey: &'a SignedPublicSubKey) -> Option<&'a Signature> {
    let verified = |kind| {
        subkey.signatures.iter().filter(move |signature| {
            signature.typ() == Some(kind) && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
        })
    };
    if verified(SignatureType::SubkeyRevocation).next().is_some() {
        return None;
    }
    let binding = verified(SignatureType::SubkeyBinding).max_by_key(|signature| signature.created())?;
    let back = binding.embedded_signature()?;
    let bound = back.verify_primary_key_binding(&subkey.key, primary).is_ok();
    (binding.key_flags().sign() && bound).then_some(binding)
}

fn expiry(created: i64, statement: &Signature) -> Option<i64> {
    let after = i64::from(statement.key_expiration_time()?.as_secs());
    (after != 0).then_some(created + after)
}

fn issuers(signatures: &[Signature]) -> Vec<String> {
    let mut all: Vec<String> = signatures
        .iter()
        .filter_map(|signature| {
            let fingerprint = signature.issuer_fingerprint().first().map(|it| hex::encode_upper(it.as_bytes()));
            fingerprint.or_else(|| signature.issuer_key_id().first().map(|it| hex::encode_upper(it.as_ref())))
        })
        .collect();
    all.sort();
    all.dedup();
    all
}
