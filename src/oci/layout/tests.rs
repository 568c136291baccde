use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use diag::{Reported as _, codes};

use super::{BlobSource, Form, Images, Layout, LayoutError, Named, Problem, validate};
use crate::layer::compress::{Compression, LayerWriter};
use crate::layer::tar::{Entry, Limits, TarReader, TarWriter};
use crate::{
    ContainerConfig, Descriptor, DiffId, Digest, Document as _, ImageConfig, Index, Manifest, Platform, Reference,
    RootFs,
};

/// Blobs in memory, or in files that may be linked to.
#[derive(Default)]
struct Blobs {
    bytes: BTreeMap<Digest, Vec<u8>>,
    directory: Option<PathBuf>,
}

impl BlobSource for Blobs {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(&self.bytes.get(digest).ok_or(io::ErrorKind::NotFound)?[..]))
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(digest.hex()))
    }
}

impl Blobs {
    fn put(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.bytes.insert(digest, bytes);
        digest
    }

    fn layer(&mut self, text: &str, compression: Compression) -> (Descriptor, DiffId) {
        let mut tar = TarWriter::new(LayerWriter::new(Vec::new(), compression, NonZeroUsize::MIN));
        tar.append_bytes(&Entry::file("file", 0), text.as_bytes()).unwrap();
        let (layer, bytes) = tar.finish().unwrap().finish().unwrap();
        self.put(bytes);
        (layer.descriptor, layer.diff_id)
    }

    fn image(&mut self, platform: Platform, layers: &[(Descriptor, DiffId)]) -> Descriptor {
        let config = ImageConfig {
            created: None,
            author: None,
            architecture: platform.architecture,
            os: platform.os,
            config: ContainerConfig::default(),
            rootfs: RootFs::new(layers.iter().map(|(_, diff_id)| *diff_id).collect()),
            history: Vec::new(),
        };
        self.put(config.to_bytes());
        let manifest = Manifest::new(config.descriptor(), layers.iter().map(|(layer, _)| layer.clone()).collect());
        self.put(manifest.to_bytes());
        manifest.descriptor()
    }

    /// An index of images for two platforms with a layer in common.
    fn index(&mut self) -> Descriptor {
        let common = self.layer("common", Compression::Gzip);
        let amd64 = [common.clone(), self.layer("amd64", Compression::Zstd)];
        let arm64 = [common, self.layer("arm64", Compression::None)];
        let mut manifests = [self.image(Platform::LINUX_AMD64, &amd64), self.image(Platform::LINUX_ARM64, &arm64)];
        manifests[0].platform = Some(Platform::LINUX_AMD64);
        manifests[1].platform = Some(Platform::LINUX_ARM64);
        let index = Index::new(manifests.to_vec());
        self.put(index.to_bytes());
        index.descriptor()
    }
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn named(root: Descriptor, names: &[&str]) -> Named {
    Named { root, names: names.iter().map(|name| reference(name)).collect() }
}

fn members(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut reader = TarReader::new(archive, Limits::default());
    let mut members = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        assert_eq!((entry.uid, entry.gid, entry.mtime), (0, 0, 0));
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        members.push((entry.display_path(), entry.mode, bytes));
    }
    members
}

fn archive(images: &Images<'_>, form: Form) -> Vec<u8> {
    let mut bytes = Vec::new();
    images.write_archive(form, &mut bytes).unwrap();
    bytes
}

const DOCKER: Form = Form::Docker { platform: Platform::LINUX_ARM64 };

#[test]
fn archives_have_buildkits_form_and_dockers_manifest() {
    let mut blobs = Blobs::default();
    let index = blobs.index();
    let roots = vec![named(index.clone(), &["ghcr.io/me/claw:1", "claw:latest"])];
    let images = Images::read(&blobs, roots).unwrap();
    assert_eq!(images.size(), blobs.bytes.values().map(|bytes| bytes.len() as u64).sum::<u64>());
    let members = members(&archive(&images, DOCKER));
    let mut expected = vec![("blobs".to_owned(), 0o755), ("blobs/sha256".to_owned(), 0o755)];
    expected.extend(blobs.bytes.keys().map(|digest| (format!("blobs/sha256/{}", digest.hex()), 0o444)));
    expected
        .extend([("index.json", 0o644), ("manifest.json", 0o644), ("oci-layout", 0o444)].map(|(n, m)| (n.into(), m)));
    let found: Vec<_> = members.iter().map(|(name, mode, _)| (name.clone(), *mode)).collect();
    assert_eq!(found, expected);

    let document = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&members.iter().find(|member| member.0 == name).unwrap().2).unwrap()
    };
    let listed = document("index.json");
    for (entry, name, tag) in [(0, "ghcr.io/me/claw:1", "1"), (1, "docker.io/library/claw:latest", "latest")] {
        let entry = &listed["manifests"][entry];
        assert_eq!(entry["digest"], index.digest.to_string());
        assert_eq!(entry["annotations"]["io.containerd.image.name"], name);
        assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], tag);
    }
    let docker = document("manifest.json");
    assert_eq!(docker.as_array().unwrap().len(), 2);
    assert_eq!(docker[0]["RepoTags"], serde_json::json!([]), "amd64 is not the platform asked for");
    assert_eq!(docker[1]["RepoTags"], serde_json::json!(["ghcr.io/me/claw:1", "claw:latest"]));
    assert_eq!(docker[1]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(docker[0]["Layers"][0], docker[1]["Layers"][0], "a common layer is there once");
}

#[test]
fn what_is_written_is_found_again() {
    let mut blobs = Blobs::default();
    let index = blobs.index();
    let common = [blobs.layer("single", Compression::Gzip)];
    let single = blobs.image(Platform::LINUX_RISCV64, &common);
    let roots = vec![named(index.clone(), &["me/claw:1"]), named(single.clone(), &["me/other:2"])];
    let images = Images::read(&blobs, roots).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (layout, file) = (directory.path().join("layout"), directory.path().join("sub/archive.tar"));
    images.write_directory(&layout).unwrap();
    images.save_archive(DOCKER, &file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    for path in [&layout, &file] {
        let layout = Layout::open(path).unwrap();
        for (tag, platform) in [("1", Platform::LINUX_AMD64), ("docker.io/me/claw:1", Platform::LINUX_ARM64)] {
            let found = layout.find(Some(tag), Some(platform)).unwrap();
            assert_eq!(found.descriptor.platform, Some(platform));
            assert_eq!(found.manifest.layers.len(), 2);
        }
        assert_eq!(layout.find(Some("2"), None).unwrap().descriptor.digest, single.digest);
        assert_eq!(layout.find(Some("2"), Some(Platform::LINUX_RISCV64)).unwrap().descriptor.digest, single.digest);
        for (tag, platform, wanted) in [
            (Some("3"), None, "tagged `3`"),
            (None, None, "without a tag to choose by"),
            (Some("1"), None, "without a platform to choose by"),
            (Some("1"), Some(Platform::LINUX_RISCV64), "for linux/riscv64"),
            (Some("2"), Some(Platform::LINUX_AMD64), "for linux/amd64"),
        ] {
            let error = layout.find(tag, platform).unwrap_err();
            assert_eq!(error.diagnostic().code, codes::oci::NOT_FOUND);
            assert!(error.to_string().ends_with(wanted), "{error}");
        }
        for root in [&index, &single] {
            let report = validate(&layout, root);
            assert!(report.is_valid(), "{:?}", report.problems);
        }
        let report = validate(&layout, &index);
        assert_eq!((report.images, report.blobs), (2, 1 + 2 + 2 + 3));
    }
}

#[test]
fn directories_change_in_one_step_or_not_at_all() {
    let mut blobs = Blobs::default();
    let index = blobs.index();
    let images = Images::read(&blobs, vec![named(index, &["claw:1"])]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("deep/layout");
    images.write_directory(&layout).unwrap();
    let inode = fs::metadata(&layout).unwrap().ino();
    images.write_directory(&layout).unwrap();
    assert_eq!(fs::metadata(&layout).unwrap().ino(), inode, "what is right is left alone");

    let mut other = Blobs::default();
    let layers = [other.layer("other", Compression::Gzip)];
    let image = other.image(Platform::LINUX_AMD64, &layers);
    let others = Images::read(&other, vec![named(image, &["other:1"])]).unwrap();
    others.write_directory(&layout).unwrap();
    assert_eq!(fs::read_dir(layout.join("blobs/sha256")).unwrap().count(), 3, "the old image is gone");
    assert_eq!(fs::read_dir(layout.parent().unwrap()).unwrap().count(), 1, "and nothing is left beside it");
    fs::remove_file(layout.join("blobs/sha256").join(layers[0].0.digest.hex())).unwrap();
    others.write_directory(&layout).unwrap();
    assert!(validate(&Layout::open(&layout).unwrap(), &others.roots[0].root).is_valid(), "what is missing comes back");

    let foreign = directory.path().join("home");
    fs::create_dir(&foreign).unwrap();
    others.write_directory(&foreign).unwrap();
    fs::remove_dir_all(&foreign).unwrap();
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis"), "years").unwrap();
    for path in [&foreign, &foreign.join("thesis")] {
        let error = others.write_directory(path).unwrap_err();
        assert!(matches!(error, LayoutError::Foreign { .. }), "{error}");
    }
    assert_eq!(fs::read(foreign.join("thesis")).unwrap(), b"years");
}

#[test]
fn blobs_are_linked_where_they_can_be() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    fs::create_dir(&store).unwrap();
    let mut blobs = Blobs { directory: Some(store.clone()), ..Blobs::default() };
    let index = blobs.index();
    for (digest, bytes) in blobs.bytes.iter().skip(1) {
        fs::write(store.join(digest.hex()), bytes).unwrap();
    }
    let images = Images::read(&blobs, vec![named(index.clone(), &[])]).unwrap();
    let layout = directory.path().join("layout");
    images.write_directory(&layout).unwrap();
    let links: Vec<_> = blobs
        .bytes
        .keys()
        .map(|digest| fs::metadata(layout.join("blobs/sha256").join(digest.hex())).unwrap().nlink())
        .collect();
    assert_eq!(links[0], 1, "what has no file is copied");
    assert!(links[1..].iter().all(|&count| count == 2));
    assert!(validate(&Layout::open(&layout).unwrap(), &index).is_valid());
}

#[test]
fn every_kind_of_damage_is_found() {
    let mut good = Blobs::default();
    let index = good.index();
    let problems = |blobs: &Blobs| validate(blobs, &index).problems;
    assert!(problems(&good).is_empty());
    // Any blob, cut, changed or missing.
    for digest in good.bytes.keys() {
        for damage in [
            |bytes: &mut Vec<u8>| {
                bytes.pop();
            },
            |bytes: &mut Vec<u8>| bytes.push(0),
            |bytes: &mut Vec<u8>| bytes[0] ^= 1,
            |bytes: &mut Vec<u8>| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x40
            },
        ] {
            let mut blobs = Blobs { bytes: good.bytes.clone(), directory: None };
            damage(blobs.bytes.get_mut(digest).unwrap());
            let problems = problems(&blobs);
            let [Problem::Content(LayoutError::Mismatch { expected, .. })] = &problems[..] else {
                panic!("{digest}: {problems:?}")
            };
            assert_eq!((expected, problems[0].diagnostic().code), (digest, codes::oci::MISMATCH));
            let images = Images::read(&blobs, vec![named(index.clone(), &[])]);
            let exported = images.and_then(|images| images.write_archive(Form::Oci, &mut io::sink()));
            assert!(exported.is_err(), "nothing damaged is exported: {digest}");
        }
        let mut blobs = Blobs { bytes: good.bytes.clone(), directory: None };
        blobs.bytes.remove(digest);
        assert!(matches!(&problems(&blobs)[..], [Problem::Content(LayoutError::Blob { .. })]));
    }
    // Consistent in itself, but not with the config.
    let mut blobs = Blobs::default();
    let (one, two) = (blobs.layer("one", Compression::Gzip), blobs.layer("two", Compression::Gzip));
    let swapped = blobs.image(Platform::LINUX_AMD64, &[(one.0.clone(), two.1), (two.0.clone(), two.1)]);
    let report = validate(&blobs, &swapped);
    assert!(matches!(report.problems[..], [Problem::DiffId { number: 0, .. }]), "{:?}", report.problems);
    let manifest = Manifest::new(
        serde_json::from_slice::<Manifest>(&blobs.bytes[&swapped.digest]).unwrap().config,
        vec![one.0.clone()],
    );
    blobs.put(manifest.to_bytes());
    let report = validate(&blobs, &manifest.descriptor());
    assert!(matches!(report.problems[..], [Problem::LayerCount { layers: 1, diff_ids: 2, .. }]));
    let mut mislabelled = one.clone();
    mislabelled.0.media_type = crate::media_type::LAYER_ZSTD.to_owned();
    let image = blobs.image(Platform::LINUX_AMD64, &[mislabelled]);
    assert!(matches!(validate(&blobs, &image).problems[..], [Problem::Compression { found: Compression::Gzip, .. }]));
    let strange = Descriptor { media_type: "text/plain".to_owned(), ..image };
    assert!(matches!(validate(&blobs, &strange).problems[..], [Problem::Content(LayoutError::MediaType { .. })]));
}

#[test]
fn what_is_no_layout_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let code = |path: &Path| Layout::open(path).unwrap_err().diagnostic().code;
    assert_eq!(code(&directory.path().join("missing")), codes::oci::IO);
    assert_eq!(code(directory.path()), codes::oci::LAYOUT_INVALID);
    fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    fs::write(directory.path().join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    let error = Layout::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("2.0.0"), "{error}");
    fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    assert!(Layout::open(directory.path()).unwrap().find(None, None).is_err());
    fs::write(directory.path().join("index.json"), "{").unwrap();
    assert!(matches!(Layout::open(directory.path()), Err(LayoutError::Document { .. })));
    let text = directory.path().join("text");
    fs::File::create(&text).unwrap().write_all(&[b'x'; 2000]).unwrap();
    assert_eq!(code(&text), codes::oci::LAYER_INVALID);
    fs::write(&text, "").unwrap();
    assert_eq!(code(&text), codes::oci::LAYOUT_INVALID);
}

/// Indexes of others name platforms that clawbuild knows nothing of.
#[test]
fn foreign_platforms_do_not_stand_in_the_way() {
    let digest = Digest::of(b"x");
    let entry = |platform: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1,"platform":{platform}}}"#
        )
    };
    let entries = [
        r#"{"architecture":"arm","os":"linux","variant":"v7"}"#,
        r#"{"architecture":"unknown","os":"unknown"}"#,
        r#"{"architecture":"amd64","os":"windows","os.version":"10.0"}"#,
        r#"{"architecture":"arm64","os":"linux","variant":"v8"}"#,
    ];
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.map(entry).join(","));
    let index: Index = serde_json::from_str(&index).unwrap();
    let platforms: Vec<_> = index.manifests.iter().map(|entry| entry.platform).collect();
    assert_eq!(platforms, [None, None, None, Some(Platform::LINUX_ARM64)]);
}

/// Two platforms' worth of the same names give the same bytes every time.
#[test]
fn archives_are_deterministic() {
    let make = || {
        let mut blobs = Blobs::default();
        let index = blobs.index();
        let images = Images::read(&blobs, vec![named(index, &["claw:1"])]).unwrap();
        archive(&images, DOCKER)
    };
    assert_eq!(Digest::of(make()), Digest::of(make()));
    assert_eq!(Digest::of(make()).hex(), "a9c780f7923490dcbf55193e7ba6600e10c526c41d3479ecd066e90421ada26a");
}
