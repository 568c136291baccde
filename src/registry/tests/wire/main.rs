//! The transport, downloads and image registries, over real sockets: a scripted server for faults, Debian's
//! docker-registry for the protocol, skopeo as the second opinion.

mod downloads;
mod fixture;
mod images;
mod npm;
mod proxies;
mod registries;
mod scripted;
mod tls;
mod tools;
