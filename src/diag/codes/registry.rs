//! Codes of the `registry` area.

codes! {
    OFFLINE = "registry/offline", User, "the network was needed and is forbidden",
        "Something that is not in the store has to be fetched, and `--offline` forbids the network. Run once without `--offline` on the same store; after that the same build needs no network.";
    UNREACHABLE = "registry/unreachable", Transient, "a server cannot be reached",
        "The connection could not be made or broke, and trying again did not help. Name resolution, a proxy (`HTTPS_PROXY`, `NO_PROXY`), a firewall or the server itself are the usual reasons. `[mirrors]` in the settings can send the requests elsewhere.";
    UNAVAILABLE = "registry/unavailable", Transient, "a server is busy or failing",
        "The server answered that it is overloaded, limits the rate, or failed inside (408, 429, 5xx), and went on doing so for as long as it is reasonable to wait. Try again later.";
    CERTIFICATE = "registry/certificate", User, "a server's TLS certificate is not trusted",
        "The certificate is not signed by an authority this machine trusts, has expired, or is for another name. Behind a TLS-inspecting proxy, point `SSL_CERT_FILE` at a bundle that holds the proxy's authority; without any authorities, install the package `ca-certificates`.";
    NOT_FOUND = "registry/not-found", User, "a package, image or file does not exist",
        "The server answered 404: the name, the version or the tag is misspelt, was removed, or is private and hides itself from those who are not logged in.";
    UNAUTHORIZED = "registry/unauthorized", User, "a registry wants to know who you are",
        "The registry refuses anonymous access, or the credentials it was given. Credentials are taken from `REGISTRY_AUTH_FILE`, Docker's config (`docker login`), its credential helpers, and `GITHUB_TOKEN` for ghcr.io.";
    DENIED = "registry/denied", User, "a registry refuses this operation",
        "You are known, but not allowed to do this: the account or token lacks the right to read or write the repository. On GHCR a token needs `write:packages`, and in a workflow the package must be linked to the repository.";
    REJECTED = "registry/rejected", User, "a server refused a request",
        "The server understood the request and refused it. Its own words are in the message.";
    MALFORMED = "registry/malformed", User, "a server's answer is not understood",
        "What came back is not what the protocol says: a captive portal, a proxy's error page or a server of another kind are the usual reasons.";
    MISMATCH = "registry/mismatch", Verification, "what was downloaded is not what was expected",
        "The bytes that came have another digest or length than the lock, the index or the registry says. They were thrown away. If it comes again, the source has changed what it serves under the same name.";
    NO_VERSION = "registry/no-version", User, "no version of a package fits",
        "The package exists, but none of its versions satisfies what the recipe asks for.";
    NO_PLATFORM = "registry/no-platform", User, "an image does not exist for a platform",
        "The image is there, but not for the platform that is built. Take another image or build for fewer platforms.";
    CREDENTIALS = "registry/credentials", User, "credentials cannot be read",
        "A file with registry credentials is not readable or not understood, or a credential helper (`docker-credential-NAME`) failed.";
    TAG_TAKEN = "registry/tag-taken", User, "a tag that must not move names another image",
        "A version tag, once published, always means the same image. The registry already holds another image under it: publish under a new version.";
}
