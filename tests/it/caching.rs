//! Providers' prompt caches: what is asked to be kept, what that may cost, and what it saved.

use plimsoll::domain::message::CacheTtl;
use plimsoll::domain::pricing::{CacheWrites, PriceBook, Served, Terms, Usage};
use plimsoll::units::{Money, Timestamp, Tokens};
use proptest::prelude::*;

use crate::world::Recipe;

const NOW: Timestamp = Timestamp(1_795_435_200_000);

/// A loop that calls a tool twice, with instructions long enough to be kept, on a model whose writes are charged.
fn looping(context: &str) -> Recipe {
    let system = "Look things up before you answer, and say where you looked. ".repeat(100);
    let agent = format!(
        "tools = ['look']\n[model]\nmodels = ['openai/gpt-6.1-sol']\nmax_output_tokens = 300\n\
         [prompt]\nsystem = '{system}'\nuser = '{{{{ input }}}}'\n[limits]\ncost = '$1'\n[context]\n{context}\n"
    );
    let tool = "description = 'Looks'\nkind = 'builtin'\nbuiltin = 'template'\ntemplate = 'found {{ args.at }}'\n\
        idempotent = true\n[input]\ntype = 'object'\nproperties.at = { type = 'string' }\n";
    let scenario = "cache = true\n[[reply]]\ntool_calls = [{ name = 'look', arguments = { at = 'a' } }]\n\
        [[reply]]\ntool_calls = [{ name = 'look', arguments = { at = 'b' } }]\n[[reply]]\ntext = 'done'\n";
    Recipe::agent(&agent).file("tools/look.toml", tool).scenario(scenario)
}

#[tokio::test]
async fn a_loop_asks_for_what_it_sends_again_and_saves_money() {
    let world = looping("tokens = 16_000").start();
    let told = world.run().await;
    let usages: Vec<Usage> = told.settlements().filter_map(|settled| settled.usage).collect();
    assert_eq!(usages.len(), 3, "{}", told.show());
    assert!(usages[0].cache_write > Tokens::ZERO && usages[1].cache_read > Tokens::ZERO, "{usages:?}");
    let saved: Money = told.settlements().map(|settled| settled.cache.saved).sum();
    assert!(saved > Money::ZERO);
    assert_eq!(told.run.counters.settled, world.invoice().total, "to the last pico-dollar");
    for (reserved, settled) in told.reservations().zip(told.settlements()) {
        assert!(settled.bill <= reserved.amount, "the write is within the bound");
    }
    assert_eq!(world.runtime.store().frozen().expect("rows"), []);
    world.verify();
    let without = looping("tokens = 16_000\ncache = 'off'").start();
    let plain = without.run().await;
    let mut written = plain.settlements().filter_map(|settled| settled.usage).map(|usage| usage.cache_write);
    assert!(written.all(|written| written == Tokens::ZERO));
    // The same tokens without a cache.
    let row = PriceBook::builtin().find(&"openai/gpt-6.1-sol".into(), NOW).expect("a price");
    let fresh = |usage: &Usage| Usage { input: usage.input_total(), output: usage.output, ..Usage::default() };
    let uncached: Money = usages.iter().map(|usage| row.cost(&fresh(usage), None).expect("a cost")).sum();
    assert!(told.run.counters.settled < uncached, "it paid");
    let first = |told: &crate::world::Told| told.reservations().next().expect("a reservation").amount;
    assert!(first(&told) > first(&plain), "the bound has the write");
}

proptest! {
    /// Whatever a provider writes and reads of what it was asked to keep: the bill is within the reservation.
    #[test]
    fn no_bill_of_a_marked_request_is_above_its_reservation(
        at in any::<prop::sample::Index>(), long in any::<bool>(), classes in [0..200_000_u64, 0..200_000, 0..200_000, 0..200_000],
        output in 0..20_000_u32,
    ) {
        let rows: Vec<_> = PriceBook::builtin().rows().filter(|row| row.is_valid_at(NOW)).collect();
        let row = at.get(&rows);
        let ttl = if long { CacheTtl::Long } else { CacheTtl::Short };
        let terms = Terms { cache_writes: CacheWrites::Never, ..Terms::default() }.asking(Some(ttl));
        let [input, cache_read, cache_write, cache_write_long] = classes.map(Tokens);
        let cache_write_long = if long { cache_write_long } else { Tokens::ZERO };
        let output = Tokens(output.into());
        let usage = Usage { input, cache_read, cache_write, cache_write_long, output, ..Usage::default() };
        let whole = row.bound(usage.input_total(), terms).worst_case(u32::try_from(output.0).expect("a cap"));
        // What has no price is no bill: it settles at the reservation.
        if let Ok(bill) = row.cost_as(&usage, Served::default()) {
            prop_assert!(bill <= whole, "{}: {bill} of {whole}", row.id);
        }
    }
}
