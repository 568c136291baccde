//! Values into configuration files: claw-init's own renderer, so that what is baked at build time and what is overridden
//! at the start follow the same rules. All else in the text, comments and layout included, stays as it is.
//!
//! The tests of what it is made of belong to claw-init.
#![cfg(not(test))]

extern crate alloc;

#[path = "../../base/init/src/json/mod.rs"]
#[allow(dead_code, reason = "claw-init uses the rest")]
#[rustfmt::skip]
mod json;
#[path = "../../base/init/src/render/mod.rs"]
#[allow(dead_code, reason = "claw-init uses the rest")]
#[rustfmt::skip]
mod texts;
#[path = "../../base/init/src/value.rs"]
#[allow(dead_code, reason = "claw-init uses the rest")]
#[rustfmt::skip]
mod value;

/// The text with the value at `key`, a path of names: replaced where it is, inserted where it is not. `format` is a
/// format's name in claw-init's manifest.
///
/// # Errors
/// A sentence: the text is not in its format, the key cannot be there, or the format cannot hold the value.
///
/// # Panics
/// When claw-init does not know the format.
pub fn set(format: &str, text: &str, key: &[String], value: &serde_json::Value) -> Result<String, String> {
    let format = texts::Format::parse(format).expect("recipes and claw-init know the same formats");
    let value = value::Kind::Json.read(&value.to_string()).ok_or("the value is too large")?;
    texts::set(format, text, key, &value).map_err(|error| error.describe(key))
}
