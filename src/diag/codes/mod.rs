//! The registry of diagnostic codes, one file per area. Every failure a user can see is declared here and nowhere else.

/// Declares the codes of one area: constants, and `ALL` for listings and tests.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $exit:ident, $title:literal, $explanation:literal;)*) => {
        $(
            #[doc = $title]
            pub const $name: crate::Code = crate::Code {
                slug: $slug,
                exit: crate::Exit::$exit,
                title: $title,
                explanation: $explanation,
            };
        )*
        /// Every code of this area, in the order declared.
        pub const ALL: &[crate::Code] = &[$($name),*];
    };
}

pub mod check;
pub mod cli;
pub mod contract;
pub mod debian;
pub mod engine;
pub mod frontend;
pub mod llb;
pub mod lock;
pub mod oci;
pub mod plan;
pub mod recipe;
pub mod registry;
pub mod store;

use crate::Code;

/// Every code there is.
pub fn all() -> impl Iterator<Item = Code> {
    [
        cli::ALL,
        recipe::ALL,
        lock::ALL,
        llb::ALL,
        plan::ALL,
        debian::ALL,
        engine::ALL,
        contract::ALL,
        check::ALL,
        frontend::ALL,
        store::ALL,
        oci::ALL,
        registry::ALL,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The code with this slug.
#[must_use]
pub fn find(slug: &str) -> Option<Code> {
    all().find(|code| code.slug == slug)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn slugs_are_unique_and_well_formed_and_explained() {
        let mut seen = BTreeSet::new();
        for code in super::all() {
            assert!(seen.insert(code.slug), "{} is declared twice", code.slug);
            let (area, slug) = code.slug.split_once('/').expect("area/slug");
            assert!(!area.is_empty() && !slug.is_empty());
            assert!(
                code.slug.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '/'),
                "{code}"
            );
            assert!(code.title.len() > 10 && code.explanation.len() > 40, "{code} needs a title and an explanation");
        }
    }
}
