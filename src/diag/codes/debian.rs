//! Codes of the `debian` area.

codes! {
    SIGNATURE = "debian/bad-signature", Verification, "an archive's release file is not signed as it must be",
        "A suite's InRelease (or Release and Release.gpg) carries a signature that does not match its text, or none at all. The file was damaged or changed on its way. Try again, or use another mirror; if it stays, do not trust that mirror.";
    UNKNOWN_KEY = "debian/unknown-key", Verification, "an archive's release file is signed by keys that are not trusted",
        "None of the keys that signed a suite's release file is in the keyrings named for it (`keys` of the base, files in `base/keys/`). Debian changes its archive keys with each release: take the new ones from the package debian-archive-keyring. A third-party archive needs its own key file.";
    KEYRING = "debian/keyring", User, "a keyring cannot be used",
        "A file named as keyring holds no OpenPGP public key (armoured or binary) that may sign, or its self-signatures do not verify.";
    EXPIRED = "debian/expired", Verification, "an archive's release file is out of date",
        "A suite's release file says until when it may be used (Valid-Until), and that time has passed; or the key that signed it has expired. A mirror that is no longer updated is the usual reason, a wrong clock the second.";
    RELEASE = "debian/release", User, "a release file is not understood",
        "A suite's release file lacks a field that is needed or holds a malformed one. Make sure that `archive` and `suites` name a Debian archive.";
    NOT_LISTED = "debian/not-listed", User, "the archive does not have this index",
        "A suite's release file lists no package index for the component and architecture asked. See its Components and Architectures.";
    INDEX = "debian/index", User, "a package index is not understood",
        "A Packages file could not be decompressed or parsed. Its digest matched the signed release file, so the archive itself is at fault.";
    REQUEST = "debian/request", User, "a wanted package is not written as one",
        "Packages are asked for as `name`, `name=version`, `name/suite`, `name:arch` or a combination such as `name:arch=version`.";
    UNKNOWN_PACKAGE = "debian/unknown-package", User, "no suite has this package",
        "A package was asked for, or another one depends on it, that none of the suites given has for this architecture. Check the spelling, and whether it lives in another suite or component.";
    UNSATISFIABLE = "debian/unsatisfiable", User, "a dependency cannot be satisfied",
        "A package depends on a version of another that none of the suites has, or that something else already chosen rules out. The chain shows what asked for it. Adding a suite (backports, security) or asking for another version are the usual ways out.";
    CONFLICT = "debian/conflict", User, "two packages exclude each other",
        "Two of the packages needed declare Conflicts or Breaks between them, and no alternative avoids it. The chains show what asked for each.";
    PACKAGE = "debian/bad-package", Verification, "a .deb file is broken",
        "A package file is not a well-formed Debian binary package, exceeds the limits set against decompression bombs, or names paths outside the root. Its digest is checked after download, so look at the archive it came from.";
    FILE_CONFLICT = "debian/file-conflict", User, "two packages ship the same file",
        "Two packages contain the same path and neither declares that it replaces the other. dpkg would refuse them too. Leave one out, or ask for versions that go together.";
    USER = "debian/user", User, "a user to add clashes with the system's users",
        "A user or group that was to be added has a name or number that the packages' own users already take, or a name that is not allowed.";
    BELOW = "debian/below", User, "the layer below does not fit",
        "A package to be installed is already there, in the layer below, in another version. Files of lower layers are never rewritten: put the package into the lower set, or leave it out here.";
    IO = "debian/io", User, "a file operation failed while a root filesystem was assembled",
        "The operating system refused to read a package file or to write a temporary one. The message says which and why.";
}
