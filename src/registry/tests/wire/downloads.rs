//! Downloads: retries, checks, single flight, mirrors, offline.

use std::fs;
use std::time::{Duration, Instant};

use diag::progress::Event;
use diag::{Reported as _, codes};
use registry::download::{DownloadError, Fetched};
use registry::http::{Http, HttpError, HttpSettings, Mirrors};
use registry::progress::Meter;
use registry::{Expect, Sha512};

use crate::fixture::{World, digest, http, noise, settings};
use crate::scripted::{Reply, Server};

fn fetched(bytes: &[u8]) -> Fetched {
    Fetched { digest: digest(bytes), size: bytes.len() as u64 }
}

#[tokio::test]
async fn a_busy_server_a_broken_transfer_and_a_closed_connection_are_got_over() {
    let (world, content) = (World::new(), noise(1, 300_000));
    let server = Server::in_turn(vec![
        Reply::status(503).with("retry-after", "1"),
        Reply::Half { headers: Vec::new(), body: content.clone() },
        Reply::Close,
        Reply::ok(content.clone()),
    ])
    .await;
    let start = Instant::now();
    let expect = Expect::sha256(digest(&content));
    let found = world.downloader().fetch(&server.url("/a.deb"), &expect, &Meter::silent()).await;
    assert_eq!(found.expect("fetches"), fetched(&content));
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After is honoured");
    assert_eq!(server.lines(), ["GET /a.deb"; 4]);
    assert_eq!(world.store.read_blob(&digest(&content)).expect("reads"), content);
    assert_eq!(world.half_written(), 0);
}

#[tokio::test]
async fn a_server_that_stays_busy_is_given_up() {
    let (world, server) = (World::new(), Server::in_turn(vec![Reply::status(502)]).await);
    let error =
        world.downloader().fetch(&server.url("/x"), &Expect::ANYTHING, &Meter::silent()).await.expect_err("busy");
    assert_eq!(error.diagnostic().code, codes::registry::UNAVAILABLE);
    assert_eq!(server.requests().len(), 4);

    let patient = Server::in_turn(vec![Reply::status(429).with("retry-after", "3600")]).await;
    let error = http().get_bytes(&patient.url("/x"), 10).await.expect_err("an hour is too long");
    assert_eq!(error.diagnostic().code, codes::registry::UNAVAILABLE);
    assert_eq!(patient.requests().len(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_asked_for_once() {
    let (world, server) = (World::new(), Server::in_turn(vec![Reply::status(404)]).await);
    let expect = Expect::sha256(digest(b"x"));
    let error = world.downloader().fetch(&server.url("/x"), &expect, &Meter::silent()).await.expect_err("missing");
    assert!(error.is_not_found());
    assert_eq!(error.diagnostic().code, codes::registry::NOT_FOUND);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn wrong_content_is_looked_at_twice_and_thrown_away() {
    let (world, content) = (World::new(), b"not what was locked".to_vec());
    let server = Server::in_turn(vec![Reply::ok(content.clone())]).await;
    let wrong = [
        Expect::sha256(digest(b"locked")),
        Expect::sha512(Sha512::of("locked")),
        Expect::sha256(digest(&content)).with_size(5),
        Expect::ANYTHING.with_size(50),
    ];
    for (i, expect) in wrong.iter().enumerate() {
        let error = world.downloader().fetch(&server.url("/x"), expect, &Meter::silent()).await.expect_err("wrong");
        match (i, &error) {
            (0, DownloadError::Sha256 { found, .. }) => assert_eq!(*found, digest(&content)),
            (1, DownloadError::Sha512 { found, .. }) => assert_eq!(**found, Sha512::of(&content)),
            (2 | 3, DownloadError::Size { found, .. }) => assert_eq!(*found, content.len() as u64),
            _ => panic!("{error:?}"),
        }
        assert_eq!(error.diagnostic().code, codes::registry::MISMATCH);
        assert_eq!(server.requests().len(), 2 * (i + 1));
        assert_eq!(world.store.blob_size(&digest(&content)), None);
        assert_eq!(world.half_written(), 0);
    }
}

#[tokio::test]
async fn the_same_content_is_fetched_once_by_however_many() {
    let (world, content) = (World::new(), noise(2, 100_000));
    let body = content.clone();
    let server = Server::start(move |_, _| {
        std::thread::sleep(Duration::from_millis(30));
        Reply::ok(body.clone())
    })
    .await;
    // Two stores opened on one directory stand to each other as two processes do.
    let other = store::Store::open(world.path()).expect("opens");
    let downloaders = [world.downloader(), registry::download::Downloader::new(http(), other)];
    let expects = [Expect::sha256(digest(&content)), Expect::sha512(Sha512::of(&content))];
    for expect in &expects {
        let before = server.requests().len();
        let url = server.url("/same");
        let fetches = (0..20).map(|i| {
            let (downloader, url) = (downloaders[i % 2].clone(), url.clone());
            let expect = *expect;
            tokio::spawn(async move { downloader.fetch(&url, &expect, &Meter::silent()).await })
        });
        for fetch in fetches.collect::<Vec<_>>() {
            assert_eq!(fetch.await.expect("no panic").expect("fetches"), fetched(&content));
        }
        assert_eq!(server.requests().len(), before + 1);
    }
    assert_eq!(fs::read_dir(world.path().join("locks")).expect("lists").count(), 0);
}

#[tokio::test]
async fn damaged_or_pruned_content_is_fetched_again() {
    let (world, content) = (World::new(), noise(3, 5000));
    let server = Server::in_turn(vec![Reply::ok(content.clone())]).await;
    let downloader = world.downloader();
    let path = world.store.blob_path(&digest(&content));
    let known = Expect::sha256(digest(&content)).with_size(5000);
    let by_sha512 = Expect::sha512(Sha512::of(&content));
    let fetch = async |expect: &Expect| {
        let before = server.requests().len();
        downloader.fetch(&server.url("/x"), expect, &Meter::silent()).await.expect("fetches");
        assert_eq!(fs::read(&path).expect("reads"), content);
        server.requests().len() - before
    };
    assert_eq!(fetch(&by_sha512).await, 1);
    assert_eq!(fetch(&by_sha512).await, 0);
    assert_eq!(fetch(&known).await, 0);
    for expect in [&known, &by_sha512] {
        fs::remove_file(&path).expect("removes");
        fs::write(&path, "cut short").expect("writes");
        assert_eq!(fetch(expect).await, 1);
        fs::remove_file(&path).expect("removes");
        assert_eq!(fetch(expect).await, 1);
    }
    let usage = world.store.usage().expect("measures");
    assert_eq!((usage.downloads.count, usage.blobs.count), (1, 0));
}

#[tokio::test]
async fn offline_only_the_store_and_file_mirrors_answer() {
    let (world, content) = (World::new(), b"content".to_vec());
    let server = Server::in_turn(vec![Reply::ok(content.clone())]).await;
    let mirror = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(mirror.path().join("pool")).expect("creates");
    fs::write(mirror.path().join("pool/a b.deb"), "mirrored").expect("writes");
    let pair = ("https://deb.example/".to_owned(), format!("{}/", mirror.path().display()));
    let mirrors = Mirrors::new([pair]).expect("good mirrors");
    let offline = Http::new(HttpSettings { offline: true, mirrors, ..settings() });
    let downloader = world.downloader_over(offline);

    let secret = registry::Url::parse(&format!("http://me:hunter2@{}/x?sig=hunter2", server.address())).expect("a url");
    let expect = Expect::sha256(digest(&content));
    let error = downloader.fetch(&secret, &expect, &Meter::silent()).await.expect_err("offline");
    assert_eq!(error.diagnostic().code, codes::registry::OFFLINE);
    let shown = format!("{:?} {error:?}", error.diagnostic());
    assert!(shown.contains(server.address()) && !shown.contains("hunter2"), "{shown}");

    world.store.put_blob(&content).expect("puts");
    assert_eq!(downloader.fetch(&secret, &expect, &Meter::silent()).await.expect("stored"), fetched(&content));
    let url = |path: &str| registry::Url::parse(&format!("https://deb.example{path}")).expect("a url");
    let found = downloader.fetch(&url("/pool/a%20b.deb"), &Expect::ANYTHING, &Meter::silent()).await;
    assert_eq!(found.expect("mirrored"), fetched(b"mirrored"));
    let error = downloader.fetch(&url("/pool/none"), &Expect::ANYTHING, &Meter::silent()).await.expect_err("none");
    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn mirrors_and_redirections_lead_elsewhere_and_loops_end() {
    let server = Server::start(|request, _| match request.target.as_str() {
        "/from" => Reply::status(302).with("location", "/to"),
        "/loop" => Reply::status(302).with("location", "/loop"),
        target => Reply::ok(target.as_bytes()),
    })
    .await;
    let pair = ("https://registry.npmjs.org/".to_owned(), server.url("/npm/").to_string());
    let mirrored = Http::new(HttpSettings { mirrors: Mirrors::new([pair]).expect("good mirrors"), ..settings() });
    let url = registry::Url::parse("https://registry.npmjs.org/openclaw?x=1").expect("a url");
    assert_eq!(mirrored.get_bytes(&url, 100).await.expect("reads"), "/npm/openclaw?x=1");
    assert_eq!(http().get_bytes(&server.url("/from"), 100).await.expect("reads"), "/to");
    let error = http().get_bytes(&server.url("/loop"), 100).await.expect_err("a loop");
    assert!(matches!(error, HttpError::Redirect { .. }), "{error:?}");
}

#[tokio::test]
async fn small_documents_stay_small() {
    let server = Server::in_turn(vec![Reply::ok(noise(4, 1000))]).await;
    assert_eq!(http().get_bytes(&server.url("/x"), 1000).await.expect("fits").len(), 1000);
    let error = http().get_bytes(&server.url("/x"), 999).await.expect_err("one too many");
    assert!(matches!(error, HttpError::TooLong { limit: 999, .. }), "{error:?}");
}

#[tokio::test]
async fn a_silent_server_and_a_closed_port_are_told_apart_from_errors_of_ours() {
    let silence_timeout = Duration::from_millis(50);
    let impatient = Http::new(HttpSettings { silence_timeout, ..settings() });
    let server = Server::in_turn(vec![Reply::Stall]).await;
    let error = impatient.get_bytes(&server.url("/x"), 10).await.expect_err("silent");
    assert!(matches!(error, HttpError::Silent { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 4);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let url = registry::Url::parse(&format!("http://{closed}/x")).expect("a url");
    let error = http().get_bytes(&url, 10).await.expect_err("nobody listens");
    let diagnostic = error.diagnostic();
    assert_eq!(diagnostic.code, codes::registry::UNREACHABLE);
    assert_eq!(diagnostic.code.exit.status(), 75);
    assert!(diagnostic.causes.iter().any(|cause| cause.contains("refused")), "{diagnostic:?}");
}

#[tokio::test]
async fn progress_is_told_sparingly_and_to_the_end() {
    let (world, content) = (World::new(), noise(5, 3_000_000));
    let server = Server::in_turn(vec![Reply::status(500), Reply::ok(content.clone())]).await;
    let told = crate::fixture::Told::default();
    let task = told.task();
    let meter = Meter::new(&task, "a.deb");
    world.downloader().fetch(&server.url("/x"), &Expect::ANYTHING, &meter).await.expect("fetches");
    let events = told.events();
    let transfers: Vec<_> = events.iter().filter(|event| matches!(event, Event::Transfer { .. })).collect();
    assert!((2..20).contains(&transfers.len()), "{}", transfers.len());
    let whole = |event: &&Event| matches!(event, Event::Transfer { item, done: 3_000_000, total: Some(3_000_000), .. } if item == "a.deb");
    assert!(transfers.last().is_some_and(whole), "{:?}", transfers.last());
    assert!(events.iter().any(|event| matches!(event, Event::Warning { message, .. } if message.contains("500"))));
}

#[tokio::test]
async fn an_abandoned_download_leaves_nothing() {
    let (world, content) = (World::new(), noise(6, 4_000_000));
    let server = Server::in_turn(vec![Reply::Half { headers: Vec::new(), body: content }, Reply::Stall]).await;
    let downloader = world.downloader();
    let (url, expect) = (server.url("/x"), Expect::sha256(digest(b"x")));
    let silent = Meter::silent();
    let fetch = downloader.fetch(&url, &expect, &silent);
    assert!(tokio::time::timeout(Duration::from_millis(300), fetch).await.is_err(), "it waits for the second try");
    let start = Instant::now();
    while world.half_written() > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "a half-written file stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Nobody holds its lock any more either.
    let lock = world.store.try_lock(&format!("fetch-{}", digest(b"x").hex()));
    assert!(lock.expect("tries").is_some());
}
