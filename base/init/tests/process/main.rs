//! The program as a whole, as images carry it: started, signalled and asked, as a container engine does it.

#![expect(clippy::unwrap_used, reason = "tests fail that way")]

mod emulated;
mod one;
mod scene;
mod several;
mod users;
