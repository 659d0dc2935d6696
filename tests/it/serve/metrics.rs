//! `/metrics`: the numbers of the store, in names that stay, with labels of which there are few.

use std::collections::BTreeMap;

use plimsoll::api::IntakeOptions;
use plimsoll::telemetry::{Gauges, Telemetry};
use plimsoll::units::Money;
use reqwest::StatusCode;
use serde_json::json;

use super::{AGENT, BUDGET, SCENARIO, Served, told, waiting};
use crate::world::Recipe;

/// Every sample, by its name with labels.
fn samples(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a sample"))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_is_what_the_store_says() {
    // Nobody delivers here.
    let project = format!("{BUDGET}\n[[alerts]]\nname = 'desk'\non = ['finished']\ncommand = ['true']\n");
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", &project).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    assert_eq!(served.get("/metrics").await.status(), StatusCode::NOT_FOUND, "nobody counts");
    world.runtime.tell(Telemetry::default());
    for number in 0..3 {
        let mut run = waiting("quick");
        run["labels"] = json!({"tenant": format!("acme{number}"), "user": "u17"});
        told(served.post("/v1/runs", &run).await, StatusCode::OK).await;
    }
    let response = served.get("/metrics").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers()["content-type"].to_str().expect("text").starts_with("application/openmetrics-text"));
    let text = response.text().await.expect("a body");
    assert!(text.ends_with("# EOF\n"));
    let found = samples(&text);
    let all = world.all();
    let cost: Money = all.iter().flat_map(|told| told.settlements().map(|settled| settled.bill)).sum();
    let input: u64 =
        all.iter().flat_map(|told| told.settlements().filter_map(|it| it.usage)).map(|it| it.input_total().0).sum();
    let model = "gen_ai_provider_name=\"openai\",gen_ai_request_model=\"gpt-5-mini\"";
    for (name, value) in [
        (r#"plimsoll_runs_ended_total{gen_ai_agent_name="a",state="finished",limit=""}"#.to_owned(), "3".to_owned()),
        (r#"plimsoll_cost_picousd_total{gen_ai_agent_name="a",source="reported"}"#.to_owned(), cost.pico().to_string()),
        (format!("gen_ai_client_inference_usage_input_tokens_total{{{model}}}"), input.to_string()),
        (format!("gen_ai_client_inference_duration_seconds_count{{{model},error_type=\"\"}}"), "3".to_owned()),
        (r#"gen_ai_invoke_agent_duration_seconds_count{gen_ai_agent_name="a"}"#.to_owned(), "3".to_owned()),
        (r#"gen_ai_invoke_agent_inference_calls_sum{gen_ai_agent_name="a"}"#.to_owned(), "3.0".to_owned()),
        ("plimsoll_settle_overrun_total".to_owned(), "0".to_owned()),
        ("plimsoll_holds_unresolved".to_owned(), "0".to_owned()),
        ("plimsoll_queue_runs".to_owned(), "0".to_owned()),
        ("plimsoll_alerts_waiting".to_owned(), "3".to_owned()),
    ] {
        assert_eq!(found.get(&name), Some(&value), "{name}\n{text}");
    }
    let left = Money::from_micro(5_000_000).left_after(cost).pico().to_string();
    assert_eq!(found["plimsoll_budget_headroom_picousd{budget=\"all-time\"}"], left);
    for word in ["acme", "u17", &all[0].run.id.to_string(), "shipped", "quick"] {
        assert!(!text.contains(word), "{word} is in it");
    }
    // Whose key is bound to labels would see others in it.
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let bound = json!({"name": "acme", "scopes": ["read"], "labels": {"tenant": "acme0"}, "by": "ann"});
    let (_, bound) = served.make(Some(&admin), &bound).await;
    let (_, reads) = served.make(Some(&admin), &json!({"name": "prom", "scopes": ["read"], "by": "ann"})).await;
    assert_eq!(served.get("/metrics").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(served.seen(&bound, "/metrics").await, StatusCode::FORBIDDEN);
    assert_eq!(served.seen(&reads, "/metrics").await, StatusCode::OK);
    served.close().await;
}

#[test]
fn what_stands_no_more_is_not_told() {
    let telemetry = Telemetry::default();
    let budget = |name: &str| Gauges { headroom: vec![(name.to_owned(), Money::from_pico(7))], ..Gauges::default() };
    let first = telemetry.metrics().text(&budget("former")).expect("text");
    let second = telemetry.metrics().text(&budget("new")).expect("text");
    assert!(
        first.contains("budget=\"former\"} 7") && !second.contains("former") && second.contains("budget=\"new\"} 7")
    );
}
