//! What leaves a store: every run and event once, and money to the last pico-dollar.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll::api::{Books, ExportQuery, Exported};
use plimsoll::clock::Clock;
use plimsoll::domain::event::{CostSource, Labels};
use plimsoll::domain::outcome::{Outcome, OutcomeBy, OutcomeRecorded, Quality, QualitySource, Score};
use plimsoll::domain::report::focus::FocusVersion;
use plimsoll::domain::rollup::Day;
use plimsoll::ids::RunId;
use plimsoll::runtime::{NewRun, silent};
use plimsoll::store::RunFilter;
use plimsoll::units::{Millis, Money, Timestamp};
use serde_json::{Value, json};

use crate::world::{Recipe, World, new_run};

const AGENT: &str = r#"
feature = "desk, \"one\""
tools = ["paid"]
[model]
models = ["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"]
[limits]
cost = "$1"
attempts = 30
[retry]
attempts = 8
backoff = "1ms"
"#;
const TOOL: &str = r#"
description = "Looks something up, for money"
kind = "command"
command = ["echo", "found"]
price = "$0.002"
idempotent = true
[input]
type = "object"
"#;
const SCENARIO: &str = r#"
seed = 7
cache = true
[faults]
rate_429 = "10%"
rate_500 = "15%"
missing_usage = "15%"
[[rule]]
when = { contains = "OUTAGE", model = "gpt-5-mini" }
fault = "server_error"
[[reply]]
tool_calls = [{ name = "paid", arguments = {} }]
[[reply]]
text = "done"
output_tokens = 57
reasoning_tokens = 20
"#;
const BUDGET: &str = "[[budgets]]\nname = \"all-time\"\ncap = \"$50\"\nper = \"total\"\n";
/// Runs that are made: more than one page of events.
const RUNS: usize = 24;

async fn sailed() -> World {
    sailed_for(RUNS).await
}

async fn sailed_for(runs: usize) -> World {
    let recipe = Recipe::agent(AGENT).file("tools/paid.toml", TOOL).file("plimsoll.toml", BUDGET).scenario(SCENARIO);
    let world = recipe.start();
    for number in 0..runs {
        let tenant = format!("acme{}", number % 3);
        // One falls back, whatever is drawn.
        let input = json!(if number == 1 { "OUTAGE" } else { "please look" });
        let new = NewRun { input, ..new_run(Labels::from([("tenant".to_owned(), tenant)])) };
        world.runtime.run(&new, silent()).await.expect("it runs");
    }
    world.verify();
    world
}

fn books(world: &World) -> Books {
    Books::new(world.runtime.store().clone(), &[], Clock::system()).priced_by(world.runtime.prices().clone())
}

/// Every page, as one text, and how many there were.
fn exported(books: &Books, exported: Exported, filter: RunFilter) -> (String, usize) {
    let mut query = ExportQuery { exported, filter, run: None, after: None };
    let (mut text, mut pages) = (Vec::new(), 0);
    loop {
        let page = books.export(&query).expect("a page");
        text.extend(page.text);
        pages += 1;
        assert!(pages < 1_000, "it ends");
        query.after = page.next;
        if query.after.is_none() {
            return (String::from_utf8(text).expect("text"), pages);
        }
    }
}

/// A row, by column.
type Row = BTreeMap<String, String>;

/// As RFC 4180 has it.
fn table(text: &str) -> (Vec<String>, Vec<Row>) {
    let (mut records, mut record, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            other => field.push(other),
        }
    }
    assert!(field.is_empty() && record.is_empty() && !quoted, "it ends with a line");
    let head = records.remove(0);
    let row = |record: Vec<String>| {
        assert_eq!(record.len(), head.len());
        head.iter().cloned().zip(record).collect()
    };
    let rows = records.into_iter().map(row).collect();
    (head, rows)
}

fn focus(books: &Books, filter: RunFilter) -> Vec<Row> {
    table(&exported(books, Exported::Focus(FocusVersion::V1_2), filter).0).1
}

fn amount(row: &Row, column: &str) -> Money {
    row[column].parse().expect(column)
}

fn total(rows: &[Row]) -> Money {
    rows.iter().map(|row| amount(row, "BilledCost")).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_are_the_accounts() {
    let world = sailed().await;
    let first = world.all()[0].run.id;
    let quality = Some(Quality { score: Score::parse("0.93").expect("a score"), source: QualitySource::Human });
    let (outcome, by) = (Outcome { quality, ..Outcome::default() }, OutcomeBy::Person("ann".to_owned()));
    let said = OutcomeRecorded { outcome, unknown: Vec::new(), by, note: None };
    world.runtime.record_outcome(first, said).await.expect("it is written");
    let (store, books) = (world.runtime.store(), books(&world));
    let rows = focus(&books, RunFilter::default());
    for row in &rows {
        let worth = if row["x_RunId"] == first.to_string() { (row["x_RunId"].as_str(), "0.93") } else { ("", "") };
        assert_eq!((row["x_OutcomeId"].as_str(), row["x_QualityScore"].as_str()), worth);
    }
    // To runs, rollups and the budget's account.
    let runs = store.summaries(&RunFilter::default()).expect("runs");
    for run in &runs {
        let own: Vec<Row> = rows.iter().filter(|row| row["x_RunId"] == run.id.to_string()).cloned().collect();
        assert_eq!(total(&own), run.settled, "{}", run.id);
        let unknown: Vec<Row> = own.into_iter().filter(|row| row["x_UsageSource"] == "unknown").collect();
        assert_eq!(total(&unknown), run.unknown, "{}", run.id);
    }
    let rollups = store.rollups(Day(0), Day(u32::MAX)).expect("rollups");
    assert_eq!(total(&rows), rollups.iter().map(|(_, rollup)| rollup.settled).sum());
    let accounts = store.accounts().expect("accounts");
    assert_eq!(total(&rows), accounts.iter().map(|(_, account)| account.settled).sum());
    // What is held for an attempt stands in one of its rows.
    let reserved: Money =
        rows.iter().filter(|row| !row["x_ReservedCost"].is_empty()).map(|row| amount(row, "x_ReservedCost")).sum();
    let settled = world.all().into_iter().flat_map(|told| {
        let settled: BTreeSet<u32> = told.settlements().map(|settled| settled.reservation.number).collect();
        told.reservations()
            .filter(|it| settled.contains(&it.reservation.number))
            .map(|it| it.amount)
            .collect::<Vec<_>>()
    });
    assert_eq!(reserved, settled.sum());
    // Nothing of what can happen is missing.
    let all = |column: &str| rows.iter().map(|row| row[column].clone()).collect::<BTreeSet<String>>();
    assert_eq!(all("ProviderName"), ["Anthropic", "OpenAI", "paid"].map(str::to_owned).into());
    let meters = ["Input Tokens", "Output Tokens", "Requests", "Unmetered Requests"];
    assert_eq!(all("SkuMeter"), meters.map(str::to_owned).into());
    assert_eq!(all("x_UsageSource"), ["reported", "unknown"].map(str::to_owned).into());
    assert!(all("x_RetryOf").len() > 2 && all("SkuPriceId").iter().any(|id| id.ends_with("/cache_read")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_is_as_the_specification_wants_it() {
    let world = sailed().await;
    let books = books(&world);
    let (head, rows) = table(&exported(&books, Exported::Focus(FocusVersion::V1_2), RunFilter::default()).0);
    assert_eq!(head.iter().collect::<BTreeSet<_>>().len(), head.len(), "each column once");
    let own = head.iter().position(|column| column.starts_with("x_")).expect("columns of our own");
    assert!(head[own..].iter().all(|column| column.starts_with("x_")), "behind those of FOCUS");
    for column in MANDATORY {
        assert!(head.iter().any(|name| name == column), "{column}");
        assert!(NULLABLE.contains(&column) || rows.iter().all(|row| !row[column].is_empty()), "{column} is null");
    }
    for row in &rows {
        for (cost, price) in [("ListCost", "ListUnitPrice"), ("ContractedCost", "ContractedUnitPrice")] {
            // Both have six decimals at most where they are of a million tokens: their product is exact.
            let quantity = amount(row, "PricingQuantity").pico();
            let product = quantity * amount(row, price).pico() / 1_000_000_000_000;
            assert_eq!(product, amount(row, cost).pico(), "{row:?}");
            assert_eq!(row[cost], row["BilledCost"]);
        }
        let consumed = amount(row, "ConsumedQuantity").pico();
        let of = if row["PricingUnit"] == "1000000 Tokens" { 1_000_000 } else { 1 };
        assert_eq!(consumed, amount(row, "PricingQuantity").pico() * of);
        for column in ["ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart", "BillingPeriodEnd"] {
            assert_eq!((row[column].len(), &row[column][19..]), (20, "Z"), "whole seconds: {}", row[column]);
        }
        let at = |column: &str| row[column].parse::<Timestamp>().expect(column);
        assert!(at("BillingPeriodStart") <= at("ChargePeriodStart") && at("ChargePeriodStart") < at("ChargePeriodEnd"));
        assert!(at("ChargePeriodStart") < at("BillingPeriodEnd"));
        for column in ["Tags", "SkuPriceDetails"] {
            let flat: BTreeMap<String, Value> = serde_json::from_str(&row[column]).expect(column);
            assert!(flat.values().all(|value| !value.is_object() && !value.is_array()), "{}", row[column]);
            assert!(column == "Tags" || flat.keys().all(|key| key.starts_with("x_")));
        }
    }
    let tags: Value = serde_json::from_str(&rows[0]["Tags"]).expect("tags");
    assert_eq!(
        (&tags["feature"], &tags["tenant"], &tags["agent"]),
        (&"desk, \"one\"".into(), &"acme0".into(), &"a".into())
    );
    for (version, with, without) in [
        (FocusVersion::V1_3, "ServiceProviderName", "InvoiceDetailId"),
        (FocusVersion::V1_4, "HostProviderName", "ProviderName"),
    ] {
        let (head, rows) = table(&exported(&books, Exported::Focus(version), RunFilter::default()).0);
        assert!(head.iter().any(|name| name == with) && head.iter().all(|name| name != without), "{head:?}");
        assert!(total(&rows) > Money::ZERO);
    }
}

/// What 1.2 wants of every dataset, and what it wants of one with usage, list and contracted prices, and tags.
const MANDATORY: [&str; 37] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
    "PricingCurrency",
    "InvoiceId",
];
/// What is null in this store: no account of a provider pays, nothing is corrected or invoiced.
const NULLABLE: [&str; 4] = ["ChargeClass", "SubAccountId", "SubAccountName", "InvoiceId"];

/// What is added up in a row of a day.
const SUMS: [&str; 9] = [
    "BilledCost",
    "ContractedCost",
    "EffectiveCost",
    "ListCost",
    "PricingCurrencyEffectiveCost",
    "ConsumedQuantity",
    "PricingQuantity",
    "x_AvoidedCost",
    "x_ReservedCost",
];
/// What only an attempt has, or its run.
const OF_ATTEMPTS: [&str; 12] = [
    "x_AttemptId",
    "x_OutcomeId",
    "x_PolicyVersion",
    "x_ProviderRequestId",
    "x_Purpose",
    "x_QualityScore",
    "x_ReservationId",
    "x_ResponseModel",
    "x_RetryOf",
    "x_RootRunId",
    "x_RunId",
    "x_StepId",
];

fn day_of(row: &Row) -> Day {
    Day::of(row["ChargePeriodStart"].parse::<Timestamp>().expect("a time"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_days_are_those_of_attempts_added_up() {
    let world = sailed_for(RUNS / 3).await;
    let books = books(&world);
    let attempts = focus(&books, RunFilter::default());
    let daily = |filter: RunFilter| table(&exported(&books, Exported::FocusDaily(FocusVersion::V1_2), filter).0);
    let (head, days) = daily(RunFilter::default());
    let whole = exported(&books, Exported::Focus(FocusVersion::V1_2), RunFilter::default()).0;
    let expected: Vec<String> = table(&whole).0.into_iter().filter(|name| !OF_ATTEMPTS.contains(&&**name)).collect();
    assert_eq!(head, expected);
    // By whatever is the same in them, every sum is that of the attempts.
    let key = |row: &Row| -> Vec<String> {
        let is_key = |name: &&String| !SUMS.contains(&&***name) && !name.starts_with("ChargePeriod");
        head.iter().filter(is_key).map(|name| row[name].clone()).chain([day_of(row).to_string()]).collect()
    };
    let mut sums: BTreeMap<Vec<String>, BTreeMap<&str, u128>> = BTreeMap::new();
    for row in &attempts {
        let sum = sums.entry(key(row)).or_default();
        for name in SUMS.into_iter().filter(|name| !row[*name].is_empty()) {
            *sum.entry(name).or_default() += amount(row, name).pico();
        }
    }
    assert!(days.len() == sums.len() && days.len() < attempts.len(), "{} of {}", days.len(), attempts.len());
    for row in &days {
        for name in SUMS {
            let sum = sums[&key(row)].get(name).copied();
            assert_eq!((!row[name].is_empty()).then(|| amount(row, name).pico()), sum, "{name}: {row:?}");
        }
        let product = amount(row, "PricingQuantity").pico() * amount(row, "ListUnitPrice").pico() / 1_000_000_000_000;
        assert_eq!(product, amount(row, "ListCost").pico(), "{row:?}");
        let end = row["ChargePeriodEnd"].parse::<Timestamp>().expect("a time");
        assert_eq!(end, Day(day_of(row).0 + 1).start());
    }
    // To the accounts, and to each day of the rollups.
    let accounts = world.runtime.store().accounts().expect("accounts");
    assert_eq!(total(&days), accounts.iter().map(|(_, account)| account.settled).sum());
    for ((day, _), _) in world.runtime.store().rollups(Day(0), Day(u32::MAX)).expect("rollups") {
        let rollups = world.runtime.store().rollups(day, day).expect("rollups");
        let of_day: Vec<Row> = days.iter().filter(|row| day_of(row) == day).cloned().collect();
        assert_eq!(total(&of_day), rollups.iter().map(|(_, rollup)| rollup.settled).sum());
    }
    // Filters part them, and one run has its own.
    let told = &world.all()[RUNS / 6];
    let middle = Some(told.log[told.log.len() / 2].at);
    let parts =
        [RunFilter { since: middle, ..RunFilter::default() }, RunFilter { until: middle, ..RunFilter::default() }];
    assert_eq!(parts.map(|filter| total(&daily(filter).1)).into_iter().sum::<Money>(), total(&attempts));
    let bound = books.clone().bound_to(Labels::from([("tenant".to_owned(), "acme2".to_owned())]));
    let of = table(&exported(&bound, Exported::FocusDaily(FocusVersion::V1_2), RunFilter::default()).0).1;
    assert_eq!(total(&of), total(&focus(&bound, RunFilter::default())));
    let (exported, run) = (Exported::FocusDaily(FocusVersion::V1_2), Some(told.run.id.to_string()));
    let query = ExportQuery { exported, filter: RunFilter::default(), run, after: None };
    let page = books.export(&query).expect("a page");
    let rows = table(&String::from_utf8(page.text).expect("text")).1;
    assert_eq!((total(&rows), page.next), (told.run.counters.settled, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_come_one_by_one_and_those_without_money_not_at_all() {
    let clock = Clock::virtual_at("2026-11-29T20:00:00Z".parse().expect("a time"));
    let scenario = "[[reply]]\nrepeat = \"forever\"\ntext = \"done\"\n";
    let world = Recipe::agent("[model]\nmodels = [\"openai/gpt-5-mini\"]\n").scenario(scenario).start_at(&clock);
    let mut costs = Vec::new();
    for hours in [1, 2, 44, 0] {
        costs.push(world.run().await.run.counters.settled);
        clock.advance(Millis::from_secs(hours * 3_600));
    }
    let books = Books::new(world.runtime.store().clone(), &[], clock).priced_by(world.runtime.prices().clone());
    let (text, pages) = exported(&books, Exported::FocusDaily(FocusVersion::V1_2), RunFilter::default());
    let mut days: BTreeMap<(String, String), Money> = BTreeMap::new();
    for row in table(&text).1 {
        let sum = days.entry((day_of(&row).to_string(), row["BillingPeriodStart"].clone())).or_default();
        *sum = sum.plus(amount(&row, "BilledCost"));
    }
    let day = |day: &str, month: &str| (day.to_owned(), format!("{month}-01T00:00:00Z"));
    let expected = [
        (day("2026-11-29", "2026-11"), costs[0].plus(costs[1]).plus(costs[2])),
        (day("2026-12-01", "2026-12"), costs[3]),
    ];
    assert_eq!((days, pages), (expected.into(), 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_give_each_run_and_event_once_and_filters_part_the_money() {
    let world = sailed().await;
    let (store, books) = (world.runtime.store(), books(&world));
    let (events, pages) = exported(&books, Exported::Events, RunFilter::default());
    assert!(pages > 1, "{} bytes", events.len());
    let mut whole = Vec::new();
    store.export_events(&mut whole).expect("it writes");
    assert_eq!(events.as_bytes(), whole);
    let ids = |filter: RunFilter| {
        let (runs, _) = exported(&books, Exported::Runs, filter);
        let id =
            |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["run"].as_str().expect("an id").to_owned();
        runs.lines().map(id).collect::<Vec<String>>()
    };
    let all = ids(RunFilter::default());
    assert!(all.is_sorted() && all.len() == RUNS, "{all:?}");
    let of = |tenant: &str| RunFilter {
        labels: Labels::from([("tenant".to_owned(), tenant.to_owned())]),
        ..RunFilter::default()
    };
    assert_eq!(ids(of("acme1")).len(), RUNS / 3);
    let whole = total(&focus(&books, RunFilter::default()));
    let parts: Money = ["acme0", "acme1", "acme2"].map(|tenant| total(&focus(&books, of(tenant)))).into_iter().sum();
    assert_eq!(parts, whole);
    // In the middle of a run, too: money is of the time at which it was reserved.
    let told = &world.all()[RUNS / 2];
    let middle = told.log[told.log.len() / 2].at;
    let since = focus(&books, RunFilter { since: Some(middle), ..RunFilter::default() });
    let until = focus(&books, RunFilter { until: Some(middle), ..RunFilter::default() });
    assert_eq!(total(&since).plus(total(&until)), whole);
    assert!(!since.is_empty() && !until.is_empty());
    // One who is bound sees their own, whatever they ask for.
    let bound = books.clone().bound_to(Labels::from([("tenant".to_owned(), "acme2".to_owned())]));
    assert_eq!(total(&focus(&bound, RunFilter::default())), total(&focus(&books, of("acme2"))));
    assert_eq!(focus(&bound, of("acme0")), Vec::<Row>::new());
    // One run, by its beginning.
    let query = ExportQuery {
        exported: Exported::Events,
        filter: RunFilter::default(),
        run: Some(all[3].clone()),
        after: None,
    };
    let page = books.export(&query).expect("a page");
    let run: RunId = all[3].parse().expect("an id");
    assert_eq!(page.text.iter().filter(|byte| **byte == b'\n').count(), store.events(run).expect("a log").len());
    assert!(bound.export(&query).is_err(), "of another tenant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_that_is_no_longer_known_leaves_the_bill_whole() {
    let prices = "[[prices]]\nmodel = \"openai/gpt-5-mini\"\ninput = \"3\"\noutput = \"7\"\nreason = \"a contract\"\n";
    let world = Recipe::agent("[model]\nmodels = [\"openai/gpt-5-mini\"]\n").file("plimsoll.toml", prices).start();
    let told = world.run().await;
    let settled = told.settlements().next().expect("a bill");
    assert_eq!(settled.source, CostSource::Reported);
    let known = focus(&books(&world), RunFilter::default());
    let forgotten = Books::new(world.runtime.store().clone(), &[], Clock::system());
    let whole = focus(&forgotten, RunFilter::default());
    assert_eq!((total(&known), total(&whole), whole.len()), (settled.bill, settled.bill, 1));
    assert_eq!((whole[0]["SkuMeter"].as_str(), known.len() > 1), ("Requests", true));
    assert_eq!(amount(&known[0], "ListUnitPrice"), Money::from_micro(3_000_000));
}
