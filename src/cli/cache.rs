//! `clawbuild cache`

use serde_json::{Map, Value, json};
use store::{Amount, PrunePolicy, Store};

use super::arguments::{Cache, CacheVerb};
use crate::cli::Failure;
use crate::settings::Settings;
use crate::ui::{Printer, text};

/// Says what the store holds, or frees some of it.
pub(crate) fn cache(settings: &Settings, arguments: &Cache, printer: &Printer) -> Result<(), Failure> {
    match &arguments.verb {
        CacheVerb::Du { json } => usage(settings, *json, printer),
        CacheVerb::Prune { all, max_used, min_free, max_age, dry_run, json } => {
            let policy = PrunePolicy {
                all: *all,
                max_age: *max_age,
                max_used: *max_used,
                min_free: *min_free,
                dry_run: *dry_run,
            };
            prune(settings, &policy, *json, printer)
        }
    }
}

fn usage(settings: &Settings, json: bool, printer: &Printer) -> Result<(), Failure> {
    let usage = Store::open(&settings.store)?.usage()?;
    let records = usage
        .records
        .values()
        .fold(Amount::default(), |sum, part| Amount { count: sum.count + part.count, bytes: sum.bytes + part.bytes });
    let rows = [
        ("downloads", usage.downloads),
        ("blobs", usage.blobs),
        ("snapshots", usage.snapshots),
        ("caches", usage.caches),
        ("records", records),
        ("temporary", usage.temporary),
        ("total", usage.total()),
    ];
    print(&rows, json, printer, json!({ "path": settings.store }));
    Ok(())
}

fn prune(settings: &Settings, policy: &PrunePolicy, json: bool, printer: &Printer) -> Result<(), Failure> {
    // Snapshots hold files of users that only exist in there.
    engine::userns::enter(engine::userns::Ids::Widest)?;
    let pruned = Store::prune(&settings.store, policy)?;
    let rows = [
        ("blobs", pruned.blobs),
        ("snapshots", pruned.snapshots),
        ("caches", pruned.caches),
        ("records", pruned.records),
        ("kept", pruned.kept),
    ];
    print(&rows, json, printer, json!({ "path": settings.store, "dry_run": policy.dry_run, "freed": pruned.freed() }));
    let verb = if policy.dry_run { "would free" } else { "freed" };
    printer.say(format_args!("{verb} {}", text::bytes(pruned.freed())));
    Ok(())
}

fn print(rows: &[(&str, Amount)], json: bool, printer: &Printer, more: Value) {
    if json {
        let mut object = match more {
            Value::Object(object) => object,
            _ => Map::new(),
        };
        for (name, amount) in rows {
            object.insert((*name).to_owned(), json!({ "count": amount.count, "bytes": amount.bytes }));
        }
        printer.data(format_args!("{:#}\n", Value::Object(object)));
        return;
    }
    for (name, amount) in rows {
        printer.data(format_args!("{name:<10} {:>8} {:>10}\n", amount.count, text::bytes(amount.bytes)));
    }
}
