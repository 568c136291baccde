//! What a frontend gives back. Spec: BuildKit `exporter/containerimage/exptypes`.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use oci::Platform;
use serde_json::json;

use super::Reference;

const CONFIG: &str = "containerimage.config";
const BASE_CONFIG: &str = "containerimage.base.config";
const PLATFORMS: &str = "refs.platforms";
const EPOCH: &str = "source.date.epoch";

/// What was built for one platform.
#[derive(Clone, Debug)]
pub struct PlatformResult {
    /// The platform.
    pub platform: Platform,
    /// The tree.
    pub reference: Reference,
    /// The image's config, an OCI document whose layers the exporter fills in.
    pub config: Vec<u8>,
    /// A config whose layers are the lowest ones here and stay as they are, whatever becomes of times in the others.
    pub base_config: Vec<u8>,
    /// No time in the image exceeds it, unless the client says otherwise. Seconds since 1970.
    pub epoch: i64,
}

/// Everything that was built.
#[derive(Clone, Debug)]
pub enum FrontendResult {
    /// One image.
    Image(PlatformResult),
    /// An index of images.
    Index(Vec<PlatformResult>),
    /// An answer to a question, by the names of its parts.
    Answer(Vec<(&'static str, String)>),
}

impl FrontendResult {
    pub(super) fn into_pb(self) -> frontend::Result {
        let mut metadata = HashMap::new();
        let platforms = |results: &[PlatformResult]| {
            let entry =
                |result: &PlatformResult| json!({ "ID": result.platform.to_string(), "Platform": result.platform });
            json!({ "Platforms": results.iter().map(entry).collect::<Vec<_>>() }).to_string().into_bytes()
        };
        let result = match self {
            Self::Answer(parts) => {
                metadata.extend(parts.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())));
                None
            }
            Self::Image(result) => {
                metadata.insert(PLATFORMS.to_owned(), platforms(std::slice::from_ref(&result)));
                metadata.insert(EPOCH.to_owned(), result.epoch.to_string().into_bytes());
                metadata.insert(CONFIG.to_owned(), result.config);
                metadata.insert(BASE_CONFIG.to_owned(), result.base_config);
                Some(frontend::result::Result::Ref(result.reference.into_pb()))
            }
            Self::Index(results) => {
                metadata.insert(PLATFORMS.to_owned(), platforms(&results));
                let mut refs = HashMap::new();
                for result in results {
                    let id = result.platform.to_string();
                    metadata.insert(format!("{EPOCH}/{id}"), result.epoch.to_string().into_bytes());
                    metadata.insert(format!("{CONFIG}/{id}"), result.config);
                    metadata.insert(format!("{BASE_CONFIG}/{id}"), result.base_config);
                    refs.insert(id, result.reference.into_pb());
                }
                Some(frontend::result::Result::Refs(frontend::RefMap { refs }))
            }
        };
        frontend::Result { metadata, attestations: HashMap::new(), result }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(platform: Platform) -> PlatformResult {
        let reference = Reference::new("id".to_owned());
        PlatformResult { platform, reference, config: b"{}".to_vec(), base_config: b"[]".to_vec(), epoch: 7 }
    }

    #[test]
    fn an_index_names_its_platforms_in_order() {
        let index = FrontendResult::Index(vec![result(Platform::LINUX_ARM64), result(Platform::LINUX_AMD64)]);
        let encoded = index.into_pb();
        assert_eq!(
            String::from_utf8_lossy(&encoded.metadata[PLATFORMS]),
            r#"{"Platforms":[{"ID":"linux/arm64","Platform":{"architecture":"arm64","os":"linux"}},{"ID":"linux/amd64","Platform":{"architecture":"amd64","os":"linux"}}]}"#
        );
        assert_eq!(encoded.metadata["source.date.epoch/linux/arm64"], b"7");
        assert_eq!(encoded.metadata["containerimage.config/linux/amd64"], b"{}");
        assert_eq!(encoded.metadata["containerimage.base.config/linux/arm64"], b"[]");
        assert!(matches!(encoded.result, Some(frontend::result::Result::Refs(refs)) if refs.refs.len() == 2));
    }

    #[test]
    fn one_image_is_no_index() {
        let encoded = FrontendResult::Image(result(Platform::LINUX_AMD64)).into_pb();
        assert_eq!(encoded.metadata[CONFIG], b"{}");
        assert!(matches!(encoded.result, Some(frontend::result::Result::Ref(reference)) if reference.id == "id"));
    }
}
