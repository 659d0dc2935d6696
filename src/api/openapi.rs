//! The OpenAPI 3.1 document, made of the table of routes and of the types that requests and answers are read into and written from.
//!
//! What is asked is described as it is read, what is answered as it is written: a field with a default may be left out of one
//! and always stands in the other.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::PROGRAM_VERSION;
use super::error::{ErrorBody, PROBLEMS, Problem, code};
use super::parameters::{self, Parameter};
use super::routes::{Access, Body, Gives, Route, routes};

/// What can be wrong on every path that needs a key.
const ALWAYS: [&str; 8] = [
    code::BAD_REQUEST,
    code::VERSION,
    code::UNAUTHORIZED,
    code::FORBIDDEN,
    code::SLOW,
    code::FAILED,
    code::STORE,
    code::STORE_DAMAGED,
];
/// What can be wrong where nobody needs a key.
const OPEN_ALWAYS: [&str; 6] =
    [code::VERSION, code::FORBIDDEN, code::SLOW, code::FAILED, code::STORE, code::STORE_DAMAGED];
/// Where schemas stand.
const SCHEMAS: &str = "/components/schemas";

static DOCUMENT: LazyLock<Value> = LazyLock::new(made);
static TEXT: LazyLock<String> = LazyLock::new(|| DOCUMENT.to_string());

/// The document.
#[must_use]
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// The document as it is served.
pub(super) fn text() -> &'static str {
    &TEXT
}

/// What reads schemas of what is asked, and of what is answered.
struct Schemas {
    asked: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = SCHEMAS.into();
            settings.meta_schema = None;
        });
        let asked = settings.clone().for_deserialize().into_generator();
        Self { asked, answered: settings.for_serialize().into_generator() }
    }

    /// All that were named. A type that is both asked and answered is the same on both sides: a test looks.
    fn all(mut self) -> Map<String, Value> {
        let mut all: Vec<(String, Value)> = self.asked.take_definitions(true).into_iter().collect();
        all.extend(self.answered.take_definitions(true));
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all.iter_mut().for_each(|(_, schema)| unlink(schema));
        all.into_iter().collect()
    }
}

/// Takes the links of the code's own documentation out of descriptions: they lead nowhere here.
fn unlink(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`");
            }
            map.values_mut().for_each(unlink);
        }
        Value::Array(values) => values.iter_mut().for_each(unlink),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn made() -> Value {
    let (mut schemas, mut paths) = (Schemas::new(), Map::new());
    for route in routes() {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(&route, &mut schemas);
    }
    let problem = schemas.answered.subschema_for::<ErrorBody>().to_value();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Plimsoll",
            "version": PROGRAM_VERSION,
            "summary": "Runs of agents inside hard operating limits.",
            "description": INTRODUCTION,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "key": {
                "type": "http",
                "scheme": "bearer",
                "description": "A key of `plimsoll keys create`, as `Authorization: Bearer …`. As long as there is none, this \
                                machine alone is answered, without one.",
            } },
            "parameters": { "version": described(&parameters::VERSION, "header", &mut schemas) },
            "headers": {
                "plimsoll-api": { "description": "The version of this API.", "schema": { "type": "integer" } },
                "plimsoll-version": { "description": "The program's version.", "schema": { "type": "string" } },
            },
            "schemas": with_problem(schemas.all(), &problem),
        },
    })
}

const INTRODUCTION: &str = "Amounts are texts of exact decimal digits in USD, times are in UTC. What goes wrong is a problem \
    document (RFC 9457) with a stable `code` and a `help`. Lists are read page by page: `next` of a page is what the next one's \
    `before` must be. A key that is bound to labels sees what has them, and nothing else.";

/// The schema of problems has the codes that exist.
fn with_problem(mut schemas: Map<String, Value>, problem: &Value) -> Map<String, Value> {
    let name = problem["$ref"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    if let Some(schema) = schemas.get_mut(name) {
        schema["properties"]["code"]["enum"] = PROBLEMS.iter().map(|problem| problem.code).collect();
    }
    schemas
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let mut operation = json!({
        "operationId": route.id,
        "tags": [tag(route.path)],
        "summary": route.says,
        "security": security(route.access),
        "parameters": all_parameters(route, schemas),
        "responses": responses(route, schemas),
    });
    if let Access::Scope(scope) = route.access {
        operation["description"] = format!("Needs the scope `{scope}`.").into();
    }
    if let Some(body) = &route.body {
        operation["requestBody"] = request_body(body, schemas);
    }
    operation
}

/// The part of the API that a path is of.
fn tag(path: &str) -> &str {
    let name = path.strip_prefix("/v1/").and_then(|path| path.split('/').next());
    name.unwrap_or("service")
}

fn security(access: Access) -> Value {
    match access {
        Access::Open => json!([]),
        Access::AnyKey => json!([{ "key": [] }]),
        Access::Scope(scope) => json!([{ "key": [scope.name()] }]),
    }
}

fn all_parameters(route: &Route, schemas: &mut Schemas) -> Vec<Value> {
    let in_path =
        parameters::IN_PATHS.iter().filter(|parameter| route.path.contains(&format!("{{{}}}", parameter.name)));
    let in_path = in_path.map(|parameter| (parameter, "path"));
    let in_query = route.takes.iter().copied().flatten().map(|parameter| (parameter, "query"));
    let in_headers = route.headers.iter().map(|parameter| (parameter, "header"));
    let own = in_path.chain(in_query).chain(in_headers);
    let mut all: Vec<Value> = own.map(|(parameter, place)| described(parameter, place, schemas)).collect();
    all.push(json!({ "$ref": "#/components/parameters/version" }));
    all
}

fn described(parameter: &Parameter, place: &str, schemas: &mut Schemas) -> Value {
    let example = if parameter.repeats { json!([parameter.example]) } else { json!(parameter.example) };
    let schema = parameter.schema(&mut schemas.asked).to_value();
    let example = if schema["type"] == "integer" || schema["type"] == "boolean" {
        parameter.example.parse().unwrap_or(example)
    } else {
        example
    };
    json!({
        "name": parameter.name,
        "in": place,
        "required": place == "path",
        "description": parameter.says,
        "schema": schema,
        "example": example,
    })
}

fn request_body(body: &Body, schemas: &mut Schemas) -> Value {
    json!({
        "required": body.required,
        "description": format!("At most {} bytes.", crate::units::grouped(u64::try_from(body.bytes_max).unwrap_or(u64::MAX))),
        "content": { "application/json": { "schema": (body.schema)(&mut schemas.asked) } },
    })
}

fn responses(route: &Route, schemas: &mut Schemas) -> Map<String, Value> {
    let mut responses: Vec<(String, Value)> =
        route.gives.iter().map(|gives| (gives.status.as_str().to_owned(), response(gives, schemas))).collect();
    let common = if route.access == Access::Open { &OPEN_ALWAYS[..] } else { &ALWAYS[..] };
    let with_body = route.body.as_ref().map(|_| code::TOO_LARGE);
    let codes: BTreeSet<&str> = common.iter().chain(route.problems).copied().chain(with_body).collect();
    let statuses: BTreeSet<u16> = problems(&codes).flat_map(|problem| problem.statuses).copied().collect();
    responses.extend(statuses.into_iter().map(|status| (status.to_string(), refusal(status, &codes, schemas))));
    responses.sort_by(|(a, _), (b, _)| a.cmp(b));
    responses.into_iter().collect()
}

fn problems(codes: &BTreeSet<&str>) -> impl Iterator<Item = &'static Problem> {
    PROBLEMS.iter().filter(|problem| codes.contains(problem.code))
}

fn response(gives: &Gives, schemas: &mut Schemas) -> Value {
    let content = gives
        .content
        .iter()
        .map(|(media, schema)| ((*media).to_owned(), json!({ "schema": schema(&mut schemas.answered) })));
    let content: Map<String, Value> = content.collect();
    let own = gives
        .headers
        .iter()
        .map(|(name, says)| ((*name).to_owned(), json!({ "description": says, "schema": { "type": "string" } })));
    let mut response = json!({ "description": gives.says, "headers": headers(own) });
    if !content.is_empty() {
        response["content"] = content.into();
    }
    response
}

/// What is wrong, as one status says it.
fn refusal(status: u16, codes: &BTreeSet<&str>, schemas: &mut Schemas) -> Value {
    let told: Vec<&Problem> = problems(codes).filter(|problem| problem.statuses.contains(&status)).collect();
    let lines: Vec<String> = told.iter().map(|problem| format!("`{}`: {}.", problem.code, problem.says)).collect();
    let names: Vec<&str> = told.iter().map(|problem| problem.code).collect();
    let retry = told.iter().any(|problem| problem.comes_back(status));
    let own = retry.then(|| {
        let schema = json!({ "type": "integer", "minimum": 1 });
        let says = "After how many seconds to ask again.";
        ("Retry-After".to_owned(), json!({ "description": says, "schema": schema }))
    });
    json!({
        "description": lines.join(" "),
        "headers": headers(own.into_iter()),
        "content": { "application/problem+json": { "schema": schemas.answered.subschema_for::<ErrorBody>() } },
        "x-codes": names,
    })
}

/// Headers, with those that every answer has.
fn headers(own: impl Iterator<Item = (String, Value)>) -> Map<String, Value> {
    let always = ["plimsoll-api", "plimsoll-version"];
    let always = always.map(|name| (name.to_owned(), json!({ "$ref": format!("#/components/headers/{name}") })));
    own.chain(always).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::router::OPEN_PATHS;

    #[test]
    fn what_is_asked_and_answered_has_one_schema_on_both_sides() {
        let mut schemas = Schemas::new();
        for route in routes() {
            operation(&route, &mut schemas);
        }
        let (asked, answered) = (schemas.asked.take_definitions(true), schemas.answered.take_definitions(true));
        for (name, schema) in &asked {
            assert!(answered.get(name).is_none_or(|other| other == schema), "{name} is another where it is answered");
        }
        assert!(asked.contains_key("RunRequest") && answered.contains_key("Trace"));
    }

    #[test]
    fn whoever_needs_no_key_is_let_through_at_the_door() {
        let open = routes().into_iter().filter(|route| route.access == Access::Open).map(|route| route.path);
        assert_eq!(open.collect::<Vec<_>>(), OPEN_PATHS);
    }

    #[test]
    fn every_code_of_the_api_but_the_clients_own_is_told() {
        let told: BTreeSet<&str> = PROBLEMS.iter().map(|problem| problem.code).collect();
        let silent = code::ALL.into_iter().filter(|code| !told.contains(code)).collect::<Vec<_>>();
        assert_eq!(silent, [code::SILENT]);
    }
}
