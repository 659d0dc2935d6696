//! Requests that are drawn from the document's own schemas, right, nearly right and wrong, against a live service. Whatever is
//! asked: nothing breaks down, what is refused is a problem document whose code is listed, and what is given is as the document
//! says.
//!
//! `PLIMSOLL_FUZZ_CASES=100000` asks as many, `PLIMSOLL_SEED=n` draws others.

mod draw;

use std::collections::BTreeMap;

use jsonschema::Validator;
use plimsoll::api::{IntakeOptions, openapi};
use plimsoll::units::Millis;
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::document::{Operation, operations, resolved};
use super::{AGENT, BUDGET, SCENARIO, Served, told};
use crate::world::Recipe;
use draw::{Asked, Draw, Pool};

/// How many requests are drawn where nobody says.
const CASES: u64 = 400;
/// Requests with a wrong key: more of them in a minute, and nobody is heard.
const WRONG_KEYS_MAX: u32 = 15;
/// Every code that may be shown is in this list.
const CODES: &str = include_str!("../../../docs/errors.md");

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Looks whether values fit schemas of the document, each compiled once.
#[derive(Default)]
struct Fits(BTreeMap<String, Validator>);

impl Fits {
    fn judge(&mut self, schema: &Value, value: &Value, asked: &str) {
        let compile = || jsonschema::validator_for(&resolved(schema)).expect("a schema");
        let validator = self.0.entry(schema.to_string()).or_insert_with(compile);
        let faults: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(faults.is_empty(), "{asked}\nis answered by what the document doesn't describe: {faults:?}\n{value:#}");
    }
}

/// A service with keys, and what is known of it.
struct Ship {
    served: Served,
    operations: Vec<Operation>,
    pool: Pool,
    fits: Fits,
    wrong_keys: u32,
    /// Requests that were answered well, by operation.
    answered: BTreeMap<&'static str, u64>,
}

impl Ship {
    async fn of(served: Served) -> Self {
        let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
        let mut keys = vec![admin.clone()];
        for scope in ["read", "run", "approve"] {
            keys.push(served.make(Some(&admin), &json!({"name": scope, "scopes": [scope]})).await.1);
        }
        let tenant = json!({"name": "acme", "scopes": ["admin"], "labels": {"tenant": "acme"}});
        keys.push(served.make(Some(&admin), &tenant).await.1);
        let mut pool = Pool { keys, ..Pool::default() };
        for input in ["quick", "another"] {
            let body = json!({"agent": "a", "input": input, "labels": {"tenant": "acme"}, "wait": "20s"});
            let made = served.http.post(served.url("/v1/runs")).bearer_auth(&admin).json(&body).send().await;
            let made = told(made.expect("an answer"), StatusCode::OK).await;
            pool.runs.push(made["run"].as_str().expect("an id").to_owned());
        }
        Self { served, operations: operations(), pool, fits: Fits::default(), wrong_keys: 0, answered: BTreeMap::new() }
    }

    async fn ask(&mut self, draw: &mut Draw) {
        let operation = &self.operations[draw.below(self.operations.len())];
        let mut asked = draw.request(&operation.method, &operation.path, operation.told, &self.pool);
        if asked.has_wrong_key {
            self.wrong_keys += 1;
            if self.wrong_keys > WRONG_KEYS_MAX {
                asked.key = Some(self.pool.keys[0].clone());
            }
        }
        let shown = asked.shown();
        let answer = self.send(&asked).await;
        let told = asked.is_of_operation.then_some(operation.told);
        self.judge(answer, &shown, &asked.method, told).await;
    }

    async fn send(&self, asked: &Asked) -> Response {
        let mut request = self.served.http.request(asked.method.clone(), self.served.url(&asked.target));
        for (name, value) in &asked.headers {
            request = request.header(*name, value.as_slice());
        }
        if let Some(key) = &asked.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = &asked.body {
            request = request.body(body.clone());
        }
        request.send().await.unwrap_or_else(|error| panic!("{error:?}: {}", asked.shown()))
    }

    async fn judge(&mut self, answer: Response, asked: &str, method: &Method, told: Option<&'static Value>) {
        let (status, head) = (answer.status(), answer.headers().clone());
        let kind = head.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
        assert!(head.contains_key("plimsoll-api") || status == StatusCode::UNAUTHORIZED, "{asked}\n{status} {head:?}");
        let expected = told.map(|told| &told["responses"][status.as_str()]);
        assert!(
            expected.is_none_or(Value::is_object),
            "{asked}\n{status} isn't in the document: {}",
            answer.text().await.expect("a body")
        );
        if *method == Method::HEAD || kind.starts_with("text/event-stream") {
            assert!(status.as_u16() < 500 || head.contains_key(header::RETRY_AFTER), "{asked}\n{status}");
            return;
        }
        let text = answer.text().await.expect("a body");
        if status.is_success() {
            if let Some(told) = told {
                *self.answered.entry(told["operationId"].as_str().expect("an id")).or_default() += 1;
            }
            let Some(content) = expected.and_then(|expected| expected["content"].as_object()) else { return };
            let (_, content) = content
                .iter()
                .find(|(media, _)| kind.starts_with(media.as_str()))
                .unwrap_or_else(|| panic!("{asked}\n{kind}"));
            if kind == "application/json" {
                let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{asked}\n{error}: {text}"));
                self.fits.judge(&content["schema"], &value, asked);
                self.pool.learn(&value);
            }
            return;
        }
        let is_documented = status.is_client_error()
            || status == StatusCode::SERVICE_UNAVAILABLE && head.contains_key(header::RETRY_AFTER);
        assert!(is_documented, "{asked}\n{status}: {text}");
        assert_eq!(kind, "application/problem+json", "{asked}\n{status}: {text}");
        let problem: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{asked}\n{error}: {text}"));
        let schema = json!({"$ref": "#/components/schemas/ErrorBody"});
        self.fits.judge(&schema, &problem, asked);
        let code = problem["code"].as_str().expect("a code");
        assert!(CODES.contains(&format!("`{code}`")), "{asked}\n`{code}` isn't in docs/errors.md");
        assert_eq!(problem["status"], status.as_u16(), "{asked}");
        if let Some(expected) = expected {
            let codes = expected["x-codes"].as_array().expect("codes");
            assert!(codes.contains(&problem["code"]), "{asked}\n{status} with `{code}` isn't in the document: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_asked_is_answered_as_the_document_says() {
    let (cases, seed) = (number("PLIMSOLL_FUZZ_CASES", CASES), number("PLIMSOLL_SEED", 1));
    assert!(openapi::document()["paths"].is_object());
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let options = IntakeOptions { parallel: 8, waiting: 64, grace: Millis::ZERO };
    let mut ship = Ship::of(Served::of(&world, options).await).await;
    for case in 0..cases {
        ship.ask(&mut Draw::new(seed, case)).await;
    }
    // What is drawn isn't all nonsense: much of it is answered, and with enough of it each operation is, but for those that
    // this service has nothing for.
    let answered: u64 = ship.answered.values().sum();
    assert!(answered > cases / 4, "{answered} of {cases}");
    let never = operations().into_iter().map(|operation| operation.told["operationId"].as_str().expect("an id"));
    let never: Vec<&str> = never.filter(|id| !ship.answered.contains_key(id)).collect();
    assert!(cases < 10_000 || never == ["getMetrics", "streamEvents", "retryAlert"], "{never:?}");
    let alive = ship.served.get("/healthz").await;
    assert_eq!(alive.status(), StatusCode::OK);
    ship.served.close().await;
    world.runtime.store().verify().expect("the books are right");
}
