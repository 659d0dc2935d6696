//! The OpenAPI document: it is sound, it is what the router does, and it says truly who may ask for what.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll::api::IntakeOptions;
use plimsoll::api::openapi;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{AGENT, BUDGET, SCENARIO, Served, told};
use crate::world::Recipe;

/// One operation of the document.
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) told: &'static Value,
}

pub(super) fn operations() -> Vec<Operation> {
    let paths = openapi::document()["paths"].as_object().expect("paths").iter();
    let operations = paths.flat_map(|(path, methods)| {
        methods.as_object().expect("methods").iter().map(move |(method, told)| {
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method");
            Operation { method, path: path.clone(), told }
        })
    });
    operations.collect()
}

/// The names in braces of a path.
pub(super) fn braces(path: &str) -> BTreeSet<&str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
}

fn walk<'a>(value: &'a Value, see: &mut impl FnMut(&str, &'a Value)) {
    if let Value::Object(map) = value {
        for (key, value) in map {
            see(key, value);
            walk(value, see);
        }
    }
    value.as_array().into_iter().flatten().for_each(|value| walk(value, see));
}

#[test]
fn the_document_is_openapi() {
    let document = openapi::document();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    walk(document, &mut |key, value| match (key, value) {
        ("$ref", Value::String(path)) => {
            let pointer = path.strip_prefix('#').expect("nothing lies elsewhere");
            assert!(document.pointer(pointer).is_some(), "{path} leads nowhere");
        }
        ("description" | "summary", Value::String(text)) => {
            assert!(!text.trim().is_empty() && !text.contains("[`"), "{text}");
        }
        _ => {}
    });
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        jsonschema::draft202012::meta::validate(schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
        assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "two types are called {name}");
    }
    let mut ids = BTreeSet::new();
    for Operation { method, path, told } in operations() {
        let name = format!("{method} {path}");
        assert!(ids.insert(told["operationId"].as_str().expect("an id")), "{name}: its id is another's");
        assert!(told["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        let parameters = told["parameters"].as_array().expect("parameters");
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
        let in_path: BTreeSet<&str> = in_path
            .map(|parameter| {
                assert_eq!(parameter["required"], true, "{name}");
                parameter["name"].as_str().expect("a name")
            })
            .collect();
        assert_eq!(in_path, braces(&path), "{name}");
        for parameter in parameters.iter().filter(|parameter| parameter["$ref"].is_null()) {
            let schema = resolved(&parameter["schema"]);
            let fits = jsonschema::validator_for(&schema).expect("a schema").is_valid(&parameter["example"]);
            assert!(fits, "{name}: the example of {parameter}");
        }
        for scheme in told["security"].as_array().expect("security") {
            for name in scheme.as_object().expect("a scheme").keys() {
                assert!(document["components"]["securitySchemes"].get(name).is_some(), "{name}");
            }
        }
        let responses = told["responses"].as_object().expect("responses");
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
        for (status, response) in responses {
            assert!(status.parse::<u16>().is_ok() && response["description"].is_string(), "{name} {status}");
            for content in response["content"].as_object().into_iter().flatten() {
                jsonschema::validator_for(&resolved(&content.1["schema"])).expect("a schema");
            }
        }
    }
}

/// A schema that stands by itself, with those that it names.
pub(super) fn resolved(schema: &Value) -> Value {
    json!({ "allOf": [schema], "components": { "schemas": openapi::document()["components"]["schemas"] } })
}

/// A path with something in the place of each name.
pub(super) fn filled(path: &str) -> String {
    let examples = [
        ("{run}", "last"),
        ("{key}", "nobody"),
        ("{exception}", "7"),
        ("{alert}", "7"),
        ("{what}", "runs"),
        ("{budget}", "all-time"),
    ];
    examples.iter().fold(path.to_owned(), |path, (name, example)| path.replace(name, example))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_parameter_of_the_document_is_taken_and_no_other() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    told(served.post("/v1/runs", &super::waiting("quick")).await, StatusCode::OK).await;
    for Operation { method, path, told: operation } in operations().into_iter().filter(|one| one.method == Method::GET)
    {
        let path = filled(&path);
        let parameters = operation["parameters"].as_array().expect("parameters").iter();
        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
            let example = &parameter["example"];
            let example = if example.is_array() { &example[0] } else { example };
            let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
            let name = parameter["name"].as_str().expect("a name");
            // What belongs to one of several exports.
            let path = if ["spec", "daily"].contains(&name) { path.replace("/runs", "/focus") } else { path.clone() };
            let mut url = reqwest::Url::parse(&served.url(&path)).expect("a URL");
            url.query_pairs_mut().append_pair(name, &text);
            let answer = served.http.get(url).send().await.expect("an answer");
            assert!(
                answer.status().is_success(),
                "{method} {path}?{name}={text}: {}",
                answer.text().await.expect("a body")
            );
        }
        if path != "/healthz" && path != "/readyz" {
            let answer = served.get(&format!("{path}?nobody_takes_this=1")).await;
            let problem = told(answer, StatusCode::BAD_REQUEST).await;
            assert_eq!(problem["code"], "plimsoll::api::bad_request", "{path}");
        }
    }
    let other = served.http.request(Method::DELETE, served.url("/v1/runs")).send().await.expect("an answer");
    assert_eq!(other.headers().get("allow").and_then(|allow| allow.to_str().ok()), Some("GET,HEAD,POST"));
    assert_eq!(told(other, StatusCode::METHOD_NOT_ALLOWED).await["code"], "plimsoll::api::method");
    let shown = told(served.get("/openapi.json").await, StatusCode::OK).await;
    assert_eq!(&shown, openapi::document());
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_is_for_the_scope_that_the_document_names() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let mut keys = BTreeMap::from([("admin", admin.clone())]);
    for scope in ["read", "run", "approve"] {
        let (_, key) = served.make(Some(&admin), &json!({"name": scope, "scopes": [scope]})).await;
        keys.insert(scope, key);
    }
    let mut without = 0;
    for Operation { method, path, told: operation } in operations() {
        let ask = async |key: Option<&str>| {
            let request = served.http.request(method.clone(), served.url(&filled(&path)));
            let request = if method == Method::POST { request.body("[") } else { request };
            let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
            request.send().await.expect("an answer").status()
        };
        let (name, security) = (format!("{method} {path}"), &operation["security"][0]["key"]);
        // Who asks without a key too often isn't heard at all for a while.
        if security.is_null() || without < 15 {
            without += usize::from(!security.is_null());
            assert_eq!(ask(None).await == StatusCode::UNAUTHORIZED, !security.is_null(), "{name} without a key");
        }
        for (scope, key) in &keys {
            let needed = security[0].as_str();
            let may = needed.is_none_or(|needed| needed == *scope) || *scope == "admin";
            assert_eq!(ask(Some(key)).await != StatusCode::FORBIDDEN, may, "{name} with {scope}");
        }
    }
    served.close().await;
}
