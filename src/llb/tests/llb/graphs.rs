//! Identity and order.

use llb::*;
use oci::{Digest, Platform};
use proptest::prelude::*;

use crate::arbitrary;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn decoding_undoes_encoding(definition in arbitrary::definition()) {
        let bytes = definition.marshal();
        prop_assert_eq!(&bytes, &definition.marshal());
        let decoded = Definition::unmarshal(&bytes).expect("what was encoded can be decoded");
        prop_assert_eq!(&decoded, &definition);
        prop_assert_eq!(decoded.marshal(), bytes);
        for vertex in decoded.vertices() {
            let original = definition.vertex(&vertex.digest()).expect("the same vertices");
            prop_assert_eq!(vertex.op(), original.op());
            prop_assert_eq!(vertex.inputs(), original.inputs());
            prop_assert_eq!(vertex.platform(), original.platform());
        }
    }

    #[test]
    fn the_order_of_insertion_changes_nothing(
        (head, vertices, shuffled) in arbitrary::vertices()
            .prop_flat_map(|(head, vertices)| (Just(head), Just(vertices.clone()), Just(vertices).prop_shuffle())),
    ) {
        // Equal vertices that differ in metadata alone are merged in the order met: draw without such.
        let mut digests: Vec<_> = vertices.iter().map(Vertex::digest).collect();
        digests.sort_unstable();
        digests.dedup();
        prop_assume!(digests.len() == vertices.len());
        let one = Definition::new(head, vertices, SourceMap::default()).expect("valid");
        let other = Definition::new(head, shuffled, SourceMap::default()).expect("valid");
        prop_assert_eq!(one.marshal(), other.marshal());
    }

    #[test]
    fn inputs_come_first_and_nothing_is_there_for_nothing(definition in arbitrary::definition()) {
        let mut seen = std::collections::BTreeSet::new();
        for vertex in definition.vertices() {
            prop_assert!(vertex.inputs().iter().all(|input| seen.contains(&input.vertex)));
            prop_assert!(seen.insert(vertex.digest()));
            prop_assert_eq!(Digest::of(vertex.encoded()), vertex.digest());
        }
        let mut used: std::collections::BTreeSet<_> =
            definition.vertices().iter().flat_map(|vertex| vertex.inputs()).map(|input| input.vertex).collect();
        used.insert(definition.head().vertex);
        prop_assert_eq!(used, seen);
    }

    #[test]
    fn damaged_bytes_are_an_error_or_another_definition_but_never_a_panic(
        definition in arbitrary::definition(),
        flips in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
    ) {
        let mut bytes = definition.marshal();
        for (index, value) in flips {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        if let Ok(decoded) = Definition::unmarshal(&bytes) {
            decoded.validate().expect("whatever decodes is valid");
        }
    }
}

fn base(graph: &Graph) -> Output {
    graph.oci_layout("base/debian", Digest::of("debian"), Some("clawbuild"))
}

#[test]
fn equal_steps_are_one_vertex() {
    let graph = Graph::new(Platform::LINUX_AMD64);
    let step = |name: &str| graph.exec(Exec::on(&base(&graph), ["true"]).with_name(name)).rootfs().clone();
    let merged = graph.merge(&step("first"), [step("second")]);
    let definition = graph.definition(&merged).expect("valid");
    assert_eq!(definition.vertices().len(), 3);
    let exec = &definition.vertices()[1];
    assert_eq!(exec.name(), "first");
    assert_eq!(definition.vertices()[2].inputs().len(), 2);
}

#[test]
fn names_and_places_do_not_change_digests() {
    let graph = Graph::new(Platform::LINUX_AMD64);
    let source = diag::Source::new("recipe.toml", "[build]\nrun = \"make\"\n");
    let location = Location::new(&source, diag::Span { start: 8, end: 20 });
    let plain = graph.exec(Exec::on(&base(&graph), ["make"]));
    let named = graph
        .exec(Exec::on(&base(&graph).with_name("base"), ["make"]).with_name("make").with_location(location.clone()));
    assert_eq!(plain.rootfs().edge(), named.rootfs().edge());
    let definition = graph.definition(named.rootfs()).expect("valid");
    assert_eq!(definition.source_map().locations(&named.rootfs().edge().vertex), [location]);
    let back = Definition::unmarshal(&definition.marshal()).expect("decodes");
    assert_eq!(back.source_map(), definition.source_map());
}

#[test]
fn what_differs_only_in_platform_differs_where_that_matters() {
    let [amd, arm] = [Platform::LINUX_AMD64, Platform::LINUX_ARM64].map(Graph::new);
    assert_ne!(base(&amd).edge(), base(&arm).edge());
    let local = |graph: &Graph| graph.local(LocalSource::new("context"));
    assert_eq!(local(&amd).edge(), local(&arm).edge());
    let file = |graph: &Graph| graph.file(File::on(local(graph)).rm(RmAction::new("/x")));
    assert_eq!(file(&amd).edge(), file(&arm).edge());
}

#[test]
fn an_exec_numbers_outputs_by_destination_and_hands_a_read_only_root_through() {
    let graph = Graph::new(Platform::LINUX_AMD64);
    let base = base(&graph);
    let source = graph.local(LocalSource::new("context"));
    let exec = Exec::on(&base, ["make"])
        .mount("/z", Bind::scratch())
        .mount("/a/", Bind::new(&source))
        .mount("/m", Bind::new(&source).read_only())
        .mount("/n", Bind::new(&source).discard_changes());
    let done = graph.exec(exec.clone());
    let index = |dest: &str| done.output(dest).map(|output| output.edge().output);
    assert_eq!(index("/"), Some(OutputIndex(0)));
    assert_eq!(index("/a"), Some(OutputIndex(1)));
    assert_eq!(index("/z"), Some(OutputIndex(2)));
    assert_eq!((index("/m"), index("/n")), (None, None));
    assert_eq!(done.rootfs().vertex().inputs().len(), 2, "one input however often it is mounted");
    let read_only = graph.exec(exec.read_only_rootfs());
    assert_eq!(read_only.rootfs().edge(), base.edge());
    assert_eq!(read_only.output("/a").expect("writable").edge().output, OutputIndex(0));
}

#[test]
fn caps_are_what_the_ops_use() {
    let graph = Graph::new(Platform::LINUX_AMD64);
    let base = base(&graph);
    let file = graph.http(HttpSource { perm: Some(0o755), ..HttpSource::new("https://x.test/y", Digest::of("y")) });
    let done = graph.exec(
        Exec::on(&base, ["make"])
            .network(NetworkMode::None)
            .mount("/y", Bind::new(&file).selector("/y").read_only())
            .mount("/c", Cache::new("c", CacheSharing::Locked))
            .mount("/s", Secret::new("s").optional()),
    );
    let linked = graph.file(File::on(done.rootfs()).symlink(SymlinkAction::new("a", "/b")));
    let head = graph.merge(&graph.diff(&base, &linked), [&base]);
    let definition = graph.definition(&head).expect("valid");
    let caps: Vec<_> = definition.required_caps().into_iter().map(Cap::as_str).collect();
    let mut expected = [
        "source.ocilayout",
        "source.http",
        "source.http.checksum",
        "source.http.perm",
        "exec.meta.base",
        "exec.meta.network",
        "exec.mount.bind",
        "exec.mount.selector",
        "exec.mount.cache",
        "exec.mount.cache.sharing",
        "exec.mount.secret",
        "file.base",
        "file.symlink.create",
        "mergeop",
        "diffop",
        "constraints",
        "platform",
    ];
    let mut caps = caps;
    caps.sort_unstable();
    expected.sort_unstable();
    assert_eq!(caps, expected);
    assert_eq!(definition.user_of(Cap::DiffOp).map(Vertex::digest), Some(definition.vertices()[4].digest()));
}

#[test]
fn sources_can_be_rewritten_for_one_session() {
    let graph = Graph::new(Platform::LINUX_AMD64);
    let context = graph.local(LocalSource::new("context")).with_name("context");
    let done = graph.exec(Exec::on(&base(&graph), ["make"]).mount("/src", Bind::new(&context)));
    let definition = graph.definition(done.rootfs()).expect("valid");
    let same = definition.map_sources(SourceOp::clone).expect("valid");
    assert_eq!(same, definition);
    let other = definition
        .map_sources(|source| match source {
            SourceOp::Local(local) => SourceOp::Local(LocalSource { session: Some("s1".to_owned()), ..local.clone() }),
            source => source.clone(),
        })
        .expect("valid");
    assert_ne!(other.digest(), definition.digest());
    assert!(other.required_caps().contains(&Cap::SourceLocalSessionId));
    assert_eq!(other.vertices()[1].name(), "context");
}

#[test]
fn deep_graphs_need_no_deep_stack() {
    let graph = Graph::new(Platform::LINUX_AMD64);
    let mut tree = base(&graph);
    for step in 0..3000 {
        tree = graph.file(File::on(&tree).mkdir(MkdirAction::new(format!("/{step}"))));
    }
    let definition = graph.definition(&tree).expect("valid");
    assert_eq!(Definition::unmarshal(&definition.marshal()).expect("decodes").vertices().len(), 3001);
}
